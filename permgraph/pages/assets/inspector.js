// The panel at the side: what moves with the selected axis, the chain of operations that ties it, or what pins it.
let chosen = null; // {axis, group, other}: the selected axis, one of its groups, and a partner in that group

function select(axis, group = null, other = null) {
  const groups = groupsOf(...axis);
  const by = group ?? groups[groups.length - 1] ?? null;
  chosen = { axis, group: by, other: other ?? (by === null ? null : nearestPartner(axis, by)) };
  reveal(axis[0]);
  history.replaceState(null, "", `#${encodeURIComponent(axisKey(D.names[axis[0]], axis[1]))}`);
  drawSide();
  paint();
}

function selectGroup(group) {
  const [first] = graph.members[group];
  if (first) select(first, group);
}

function unselect() {
  const edge = drawn.get(axisKey(...chosen.axis));
  chosen = null;
  history.replaceState(null, "", location.pathname + location.search);
  drawSide();
  paint();
  edge?.focus({ preventScroll: true });
}

// Marks on the drawn edges: the selected axis, its partner, all that move with them; the rest steps back.
function paint() {
  document.body.classList.toggle("choosing", chosen !== null);
  for (const [key, edge] of drawn) {
    const [t, d] = key.split(":").map(Number);
    edge.classList.toggle("with", chosen?.group != null && groupsOf(t, d).includes(chosen.group));
    edge.classList.toggle("chosen", chosen !== null && key === axisKey(...chosen.axis));
    edge.classList.toggle("other", Boolean(chosen?.other) && key === axisKey(...chosen.other));
  }
}

// The panel is drawn anew at each choice; whoever was in it with the keyboard stays at the same place.
function drawSide() {
  const side = document.getElementById("side");
  const held = side.contains(document.activeElement) ? document.activeElement.dataset.to : null;
  side.classList.toggle("empty", chosen === null);
  side.replaceChildren(...(chosen ? describe(chosen) : welcome()));
  if (held) side.querySelector(`[data-to="${held}"]`)?.focus();
  document.getElementById("said").textContent = chosen ? summary(chosen) : "";
}

// Nothing is selected: what the colours stand for, each a way in.
function welcome() {
  const roles = D.roles.map(({ role, groups, share }) => {
    const first = D.groups.findIndex((group) => group.role === role);
    const { symbol, count: copies } = D.groups[first];
    const alike = D.groups.every((g) => g.role !== role || (g.symbol === symbol && g.count === copies));
    const words = `${count(groups)} group${groups === 1 ? "" : "s"} · ${percent(share)} of the elements`;
    return el(
      "button.group-card",
      { type: "button", "data-to": `role ${role}`, onclick: () => selectGroup(first) },
      el("span.group-name", {}, swatch(first), breakable(role)),
      el("span", {}, ...(alike ? [...symmetry(D.groups[first]), " · "] : []), el("span.quiet", {}, words)),
    );
  });
  const words = "Select an axis, a group or a pinned axis: here is what moves with it, and why.";
  return [el("p.quiet", {}, words), ...roles];
}

function summary({ axis, group }) {
  const by = group === null ? "is pinned" : `moves by ${D.groups[group].name}, on ${D.groups[group].axes} axes`;
  return `${axisName(...axis)} ${by}`;
}

function describe({ axis, group, other }) {
  const [t, d] = axis;
  const size = D.tensors[t].shape[d];
  const head = [
    el(
      "div.side-head",
      {},
      el("h2", {}, breakable(axisName(t, d))),
      el("button.close", { type: "button", "aria-label": "Close", onclick: unselect }, "×"),
    ),
    el("p.quiet", {}, `${count(size)} units`),
  ];
  const groups = groupsOf(t, d);
  if (D.tensors[t].kind === "unreached")
    head.push(el("p", {}, "The forward pass does not reach it: it is left as it is."));
  const parts = [...head, ...groups.map((g) => groupCard(g, g === group, axis))];
  if (isStill(t, d) || !groups.length) parts.push(...pinCard(axis, groups.length > 0));
  if (group !== null) parts.push(usesCard(group), ...togetherCard(axis, group, other));
  return parts;
}

function groupCard(g, isCurrent, axis) {
  const group = D.groups[g];
  const on = group.on.map(([name, size]) => `${name.split(".").pop()} (${size})`).join(", ");
  return el(
    `button.group-card${isCurrent ? ".current" : ""}`,
    { type: "button", "data-to": `group ${g}`, "aria-pressed": String(isCurrent), onclick: () => select(axis, g) },
    el("span.group-name", {}, swatch(g), breakable(group.name)),
    el("span", {}, ...symmetry(group), el("span.quiet", {}, ` · ${group.role} · on ${count(group.axes)} axes`)),
    on
      ? el(
          "span.quiet",
          {},
          `another permutation for every index of ${on}: these units stand in no tensor and in no operation without that index`,
        )
      : "",
  );
}

function pinCard(axis, inPart) {
  const found = D.tensors[axis[0]].axes.length ? chainToPin(axis) : null;
  const why =
    found?.why ??
    graph.wholly.get(axisKey(...axis)) ??
    (D.tensors[axis[0]].kind === "unreached" ? null : "it has a single unit");
  if (!why) return [];
  const [reason] = why.split(": ").slice(-1);
  const place = why.slice(0, -reason.length - 2);
  return [
    el(
      "div.pin-card",
      {},
      el("strong", {}, inPart ? "Pinned in part" : "Pinned"),
      el("p", {}, reason),
      place ? el("p.quiet", {}, place) : "",
    ),
    found?.steps.length ? chain(axis, found.steps) : "",
  ];
}

function togetherCard(axis, group, other) {
  const partners = graph.members[group].filter(([t, d]) => axisKey(t, d) !== axisKey(...axis));
  if (!partners.length) return [];
  const isChosen = (to) => other !== null && axisKey(...to) === axisKey(...other);
  const path = other && chainBetween(axis, other, group);
  const list = el(
    "ul.axes.partners",
    {},
    fold(partners, ([t, d]) => axisName(t, d)).map((row) => axisRow(row, (to) => select(axis, group, to), isChosen)),
  );
  return [
    path ? el("h3", {}, "Tied to ", breakable(axisName(...other)), " by") : "",
    path ? chain(axis, path.steps) : "",
    el("h3", {}, `Moves together with ${count(partners.length)} other ax${partners.length === 1 ? "is" : "es"}`),
    list,
  ];
}

// An axis, then for each tie the operation that makes it and the axis it leads to.
function chain(axis, steps) {
  const items = [el("li.place.end", {}, breakable(axisName(...axis)))];
  steps.forEach((step, k) => {
    items.push(
      el(
        "li.tie",
        {},
        el("span.op", {}, step.op),
        step.module ? el("span", {}, ` in ${step.module}`) : "",
        step.line ? el("span.line", {}, step.line) : "",
      ),
    );
    items.push(el(`li.place${k === steps.length - 1 ? ".end" : ""}`, {}, breakable(axisName(step.tensor, step.dim))));
  });
  return el("ol.chain", {}, items);
}
