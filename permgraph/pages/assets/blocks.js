// The model as nested boxes. A tensor is a rectangle whose edges are its axes; an edge wears the colours of its groups.
const drawn = new Map(); // axis key -> its button, for the layers that are on show
const homes = new Map(); // tensor -> how to bring its layer on show

function drawBlocks() {
  const figure = el(
    "section",
    { "aria-labelledby": "blocks-title" },
    el("h2", { id: "blocks-title" }, "Blocks"),
    legend(),
  );
  figure.append(el("div.blocks", {}, drawBlock(D.tree, true)));
  return figure;
}

function legend() {
  const sample = el(
    "span.glyph.sample",
    { "aria-hidden": "true" },
    el("span.edge.top", {}, el("span.piece", { style: `background:${roleColour("residual")}` })),
    el("span.edge.left", {}, el("span.piece", { style: `background:${roleColour("feed_forward")}` })),
    el("span.inside", { style: "width:34px;height:30px" }),
  );
  return el(
    "p.legend",
    {},
    sample,
    el(
      "span",
      {},
      "A tensor is a rectangle: its left edge is axis 0, its top edge axis 1, more axes are bars below. Edges of one group wear " +
        "one colour and move together; two stripes are a product, such as heads and the units of each; ",
      el("span.hatch"),
      " is pinned. Select an edge to see why.",
    ),
  );
}

function drawBlock(block, isRoot = false) {
  const inside = el(isRoot ? "div.inside-block.root" : "div.inside-block", {});
  if (block.tensors.length) inside.append(el("div.tensors", {}, bundles(block.tensors).map(drawTensors)));
  for (const run of block.runs) inside.append(run.length > 1 ? drawRun(run) : drawBlock(run[0]));
  if (isRoot) return inside;
  return el(
    block.runs.length ? "div.block" : "div.leaf",
    { role: "group", "aria-label": block.name },
    el("div.block-name", {}, breakable(block.name)),
    inside,
  );
}

// Equal layers: one box, and a stepper that says which of them is on show.
function drawRun(run) {
  const holder = el("div.block.stack", { role: "group", "aria-label": `${run.length} equal blocks` });
  const name = el("span.layer-name", {});
  const slider = el("input", {
    type: "range",
    min: 0,
    max: run.length - 1,
    value: 0,
    "aria-label": "Which of the equal blocks is shown",
    oninput: () => show(+slider.value),
  });
  const place = el("div", {});
  const show = (k) => {
    forget(run[slider.shown ?? k]);
    slider.shown = slider.value = k;
    name.textContent = run[k].name;
    place.replaceChildren(drawBlock({ ...run[k], name: "" }, true));
    paint();
  };
  run.forEach((block, k) => everyTensor(block, (t) => push(homes, t, () => slider.shown !== k && show(k))));
  holder.append(
    el(
      "div.block-name",
      {},
      name,
      slider,
      el("span.times", {}, `${run.length} alike: ${pattern(run.map((block) => block.name))}`),
    ),
    place,
  );
  show(0);
  return holder;
}

function everyTensor(block, use) {
  block.tensors.forEach(use);
  block.runs.flat().forEach((inner) => everyTensor(inner, use));
}

function forget(block) {
  everyTensor(block, (t) => D.tensors[t].axes.forEach((_, d) => drawn.delete(axisKey(t, d))));
}

const extent = (n) => Math.round(9 + 4.4 * Math.log2(1 + n));

// Vectors of one length in one module (a norm's weight, bias and statistics) share a caption; any other tensor has its own.
function bundles(tensors) {
  const found = new Map();
  for (const t of tensors) {
    const { shape, kind } = D.tensors[t];
    push(found, shape.length === 1 && kind !== "unreached" && !graph.alias.has(t) ? `of ${shape}` : t, t);
  }
  return [...found.values()];
}

function drawTensors(tensors) {
  const [t] = tensors;
  const { shape, axes, kind } = D.tensors[t];
  const names = tensors.map((one) => D.names[one].split(".").pop()).join(", ");
  const size = shape.length ? shape.map(count).join(" × ") : "scalar";
  const more = axes
    .map((_, d) => d)
    .filter((d) => d > 1 && shape[d] > 1)
    .map((d) => drawEdge(t, d, "more"));
  const note = graph.alias.has(t) ? `= ${D.names[graph.alias.get(t)]}` : kind === "unreached" ? kind : "";
  return el(
    "div.tensor",
    {},
    el("div.glyphs", {}, tensors.map(drawGlyph)),
    more.length ? el("div.more-axes", {}, more) : "",
    el("div.tensor-name", {}, breakable(names)),
    el("div.shape", {}, size),
    note ? el("div.note", {}, note) : "",
  );
}

function drawGlyph(t) {
  const { shape, axes, kind } = D.tensors[t];
  const glyph = el(`div.glyph.${kind}`, { title: kind === "parameter" ? D.names[t] : `${D.names[t]}, ${kind}` });
  if (shape.length >= 2) glyph.append(drawEdge(t, 1, "top"));
  if (shape.length >= 1) glyph.append(drawEdge(t, 0, "left"));
  const width = shape.length > 1 ? extent(shape[1]) : 5;
  glyph.append(
    el("span.inside", {
      style: `width:${width}px;height:${shape.length ? extent(shape[0]) : 5}px;background:${tint(axes)}`,
    }),
  );
  return glyph;
}

function drawEdge(t, d, where) {
  const pieces = D.tensors[t].axes[d] ?? [];
  const said = pieces.length
    ? [...new Set(pieces.flatMap(([, acting]) => acting))].map((g) => (g < 0 ? "pinned" : D.groups[g].name)).join(", ")
    : "not reached";
  const edge = el(
    `button.edge.${where}`,
    {
      type: "button",
      title: `axis ${d}: ${said}`,
      "data-axis": axisKey(t, d),
      "aria-label": `${axisName(t, d)}, ${count(D.tensors[t].shape[d])} units, ${said}`,
      onclick: () => select([t, d]),
    },
    !pieces.length ? el("span.piece.unknown") : "",
    pieces.map(([share, acting]) =>
      el("span.piece", { style: `flex-grow:${share};background:${blend(acting, where)}` }),
    ),
  );
  drawn.set(axisKey(t, d), edge);
  return edge;
}

// A product of groups is striped along the edge's length: outer factor outside.
function blend(acting, where) {
  if (acting.length === 1) return acting[0] < 0 ? "var(--hatch)" : colourOf(acting[0]);
  const step = 100 / acting.length;
  const stops = acting.map((g, k) => `${colourOf(g)} ${k * step}% ${(k + 1) * step}%`).join(",");
  return `linear-gradient(${where === "left" ? "to right" : "to bottom"},${stops})`;
}

// The inside of a tensor takes a breath of the colours on its edges.
function tint(axes) {
  const [rows, columns] = [0, 1].map((d) => axes[d]?.[0][1].find((g) => g >= 0));
  const veil = (g) => (g === undefined ? "var(--shade)" : `color-mix(in oklab, ${colourOf(g)} 15%, transparent)`);
  return [rows, columns]
    .slice(0, Math.max(1, axes.length))
    .map((g) => `linear-gradient(${veil(g)}, ${veil(g)})`)
    .join(",");
}

function reveal(t) {
  (homes.get(t) ?? []).forEach((bring) => bring());
}
