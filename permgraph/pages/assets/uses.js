// What can be done with a group, and what each use of it would touch.
let usesOpen = false; // as the reader left it, whatever is selected next

const SORTED = { permutation: "order", signed: "order and signs", scaled: "order and scales", monomial: "order, signs and scales" };
const canonicalOf = (kind) => SORTED[kind] ?? `basis, of largest variance${kind === "invertible" ? ", and scales" : ""}`;

function usesCard(g) {
  const { slices, tensors, lost } = D.uses;
  const group = D.groups[g];
  const units = count(group.size * group.count);
  const parts = `${count(slices[g])} slice${slices[g] === 1 ? "" : "s"} in ${count(tensors[g])} tensor${tensors[g] === 1 ? "" : "s"}`;
  const each = group.on.length ? "a unit of each row" : "a unit";
  const rows = [
    ["units", `${units} units, each ${parts}`],
    ["reorder", `${count(group.axes)} ax${group.axes === 1 ? "is" : "es"}, drawn bright; the function stays`],
    ["remove", lost[g] ? `${count(lost[g])} elements go with ${each}` : "no unit can go: a tensor would have holes, or nothing"],
    ["canonical", `${canonicalOf(group.type)}, the same for every member of the orbit`],
    ...D.uses.moves.filter(([by]) => by === g).map(mappingRow),
  ];
  const shown = rows.flatMap(([name, what]) => [el("dt", {}, name), el("dd", {}, what)]);
  const open = () => (usesOpen = card.open);
  const card = el("details.uses", { open: usesOpen, ontoggle: open }, el("summary", {}, "Put to use"), el("dl", {}, shown));
  return card;
}

// From which layers a scale or a rotation goes into which others.
function mappingRow([, turns, takes, gives, plain]) {
  const layers = (side) => fold([...new Set(side.map((t) => D.names[t].replace(/\.[^.]*$/, "")))], (name) => name);
  const said = (side) => layers(side).map((row) => row.pattern).join(", ");
  const ends = plain ? el("span.quiet", {}, " · as smooth and balance layers") : "";
  return ["mappings", el("span", {}, turns ? "rotate " : "scale ", breakable(said(takes)), " → ", breakable(said(gives)), ends)];
}
