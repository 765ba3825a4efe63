// The tie graph: which axes move together, and the shortest chain of operations between two of them.
let D; // everything the page knows, see inspection.py
const axisKey = (tensor, dim) => `${tensor}:${dim}`;
const graph = { at: new Map(), near: [], pin: new Map(), alias: new Map(), members: [], wholly: new Map() };

async function load() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  D = JSON.parse(await new Response(stream).text());
  const { tensor, dim, group, a, b, source, pins } = D.ties;
  D.aliases.forEach(([key, name]) => graph.alias.set(key, name));
  graph.near = tensor.map(() => []);
  a.forEach((from, k) => {
    graph.near[from].push([b[k], source[k]]);
    graph.near[b[k]].push([from, source[k]]);
  });
  tensor.forEach((t, node) => push(graph.at, axisKey(t, dim[node]), node));
  pins.forEach(([node, why]) => graph.pin.set(node, why));
  D.pinned.forEach(([t, d, why]) => graph.wholly.set(axisKey(t, d), why));
  graph.members = D.groups.map(() => []);
  D.tensors.forEach((entry, t) =>
    entry.axes.forEach((_, d) => groupsOf(t, d).forEach((g) => graph.members[g].push([t, d]))),
  );
}

function push(map, key, value) {
  if (!map.has(key)) map.set(key, []);
  map.get(key).push(value);
}

const nodesOf = (t, d) => graph.at.get(axisKey(graph.alias.get(t) ?? t, d)) ?? [];
const groupsOf = (t, d) =>
  [...new Set((D.tensors[t].axes[d] ?? []).flatMap(([, acting]) => acting))].filter((g) => g >= 0);
const axisName = (t, d) => `${D.names[t]}[${d}]`;
const isStill = (t, d) => (D.tensors[t].axes[d] ?? []).some(([, acting]) => acting.includes(-1));

// Breadth first from one node; `reached(node)` says where to stop. Returns steps from the node after the start.
function walk(start, reached) {
  const back = new Map([[start, null]]);
  const queue = [start];
  for (let k = 0; k < queue.length; k++) {
    const node = queue[k];
    if (reached(node)) return unwind(back, node);
    for (const [next, source] of graph.near[node]) {
      if (!back.has(next)) {
        back.set(next, [node, source]);
        queue.push(next);
      }
    }
  }
  return null;
}

function unwind(back, end) {
  const steps = [];
  for (let node = end; back.get(node); node = back.get(node)[0]) {
    const [op, module, line] = D.ties.sources[back.get(node)[1]];
    steps.unshift({ node, tensor: D.ties.tensor[node], dim: D.ties.dim[node], op, module, line });
  }
  return { end, steps };
}

function shortest(starts, reached) {
  let best = null;
  for (const start of starts) {
    const found = walk(start, reached);
    if (found && (!best || found.steps.length < best.steps.length)) best = found;
  }
  return best;
}

// The chain that ties two axes by a group, or null.
function chainBetween(one, other, group) {
  const inGroup = (node) => D.ties.group[node] === group;
  const ends = new Set(nodesOf(...other).filter(inGroup));
  return shortest(nodesOf(...one).filter(inGroup), (node) => ends.has(node));
}

// The nearest stored axis that moves with this one by a group: a matrix in another module, if there is one.
function nearestPartner(axis, group) {
  const own = graph.alias.get(axis[0]) ?? axis[0];
  const home = (t) => D.names[t].replace(/\.?[^.]*$/, "");
  const starts = nodesOf(...axis).filter((node) => D.ties.group[node] === group);
  const isStored = (t) => t < D.tensors.length && t !== own;
  const isElsewhere = (t) => isStored(t) && home(t) !== home(own);
  const wishes = [(t) => isElsewhere(t) && D.tensors[t].shape.length > 1, isElsewhere, isStored];
  let found = null;
  for (const wish of wishes) found ??= shortest(starts, (node) => wish(D.ties.tensor[node]));
  return found && [D.ties.tensor[found.end], D.ties.dim[found.end]];
}

// The chain from an axis to what pins it.
function chainToPin(axis) {
  const found = shortest(
    nodesOf(...axis).filter((node) => D.ties.group[node] < 0),
    (node) => graph.pin.has(node),
  );
  return found && { ...found, why: D.ties.reasons[graph.pin.get(found.end)] };
}
