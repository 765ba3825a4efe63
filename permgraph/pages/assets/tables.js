// Coverage, the table of groups that filters, and the pinned axes with their reasons.
const MOST_ROWS = 400;
const MOST_NAMED = 12;
let rolesShown = new Set();

function drawHead() {
  const stats = [
    [count(D.groups.length), "groups"],
    [count(D.log10), "log₁₀ of the group's order"],
    [percent(D.coverage), `of ${count(D.elements)} parameter elements move`],
    [D.outputs, "outputs"],
  ];
  const figures = el(
    "dl.stats",
    {},
    stats.map(([value, name]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
  document
    .getElementById("head")
    .append(el("div.title", {}, el("h1", {}, D.title), el("p.brand", {}, "permgraph inspect")), figures, coverageBar());
}

function coverageBar() {
  const parts = [
    ["moved by some group", D.coverage, "var(--accent)"],
    ...D.held.map(({ why, share }) => [`pinned: ${why}`, share, "var(--hatch)"]),
  ];
  const bar = el(
    "div.coverage",
    { role: "img", "aria-label": parts.map(([why, share]) => `${percent(share)} ${why}`).join("; ") },
    parts.map(([why, share, look]) =>
      el("span.piece", { title: `${percent(share)} ${why}`, style: `flex-grow:${share};background:${look}` }),
    ),
  );
  const held = D.held
    .slice(0, 3)
    .map(({ why, share }) => `${percent(share)} ${why}`)
    .join(" · ");
  return el(
    "div.coverage-row",
    {},
    bar,
    el("p.quiet", {}, held ? `Held still: ${held}` : "Every parameter element is moved by some group."),
  );
}

function drawGroups() {
  const filter = el("input", {
    type: "search",
    placeholder: "Filter by group, role, size or tensor  ( / )",
    "aria-label": "Filter groups",
    id: "filter",
    oninput: () => fill(),
  });
  const folded = el("input", { type: "checkbox", checked: true, onchange: () => fill() });
  const said = el("p.quiet", { role: "status" });
  const chips = el(
    "div.chips",
    {},
    D.roles.map((entry) => roleChip(entry, () => fill())),
  );
  const body = el("tbody", {});
  const tensors = el("ul.axes", { "aria-label": "Tensors by the filter" });
  const head = ["group", "role", "symmetry", "depends on", "axes", "log₁₀ order, each"];
  const table = el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head.map((name, k) => el(k > 3 ? "th.number" : "th", { scope: "col" }, name)),
      ),
    ),
    body,
  );
  const fill = () => {
    const wanted = filter.value.trim().toLowerCase();
    const groups = D.groups
      .map((group, g) => ({ ...group, g }))
      .filter(
        (group) =>
          (!rolesShown.size || rolesShown.has(group.role)) &&
          (!wanted || inGroup(group.g, wanted) || `${group.name} ${group.role} sym(${group.size})`.toLowerCase().includes(wanted)),
      );
    const rows = folded.checked ? foldGroups(groups) : groups.map((group) => ({ pattern: group.name, items: [group] }));
    body.replaceChildren(...rows.slice(0, MOST_ROWS).map(groupRow));
    const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} rows shown` : "";
    const named = wanted ? D.names.slice(0, D.tensors.length).flatMap((name, t) => (name.toLowerCase().includes(wanted) ? [t] : [])) : [];
    tensors.replaceChildren(...named.slice(0, MOST_NAMED).map(tensorRow));
    const found = wanted ? `, ${count(named.length)} tensors` : "";
    said.textContent = `${count(groups.length)} of ${count(D.groups.length)} groups${more}${found}`;
  };
  fill();
  sortable(table);
  return el(
    "section",
    { "aria-labelledby": "groups-title" },
    el("h2", { id: "groups-title" }, "Groups"),
    el("div.controls", {}, filter, el("label", {}, folded, " fold equal layers"), said),
    chips,
    tensors,
    el("div.scroll", {}, table),
  );
}

const inGroup = (g, wanted) => graph.members[g].some(([t]) => D.names[t].toLowerCase() === wanted);

// A tensor that the filter names: a button for each of its axes.
function tensorRow(t) {
  const axes = D.tensors[t].shape.map((size, d) =>
    el("button.link", { type: "button", onclick: () => select([t, d]) }, ` [${d}] ${count(size)}`),
  );
  return el("li", {}, breakable(D.names[t]), ...axes);
}

const foldGroups = (groups) => {
  const alike = new Map();
  groups.forEach((group) =>
    push(alike, `${group.kind}/${group.role}/${group.symbol}/${group.count}/${group.axes}`, group),
  );
  return [...alike.values()]
    .flatMap((members) => fold(members, (group) => group.name))
    .sort((x, y) => x.items[0].g - y.items[0].g);
};

function roleChip({ role, groups, share }, changed) {
  const chip = el(
    "button.chip",
    {
      type: "button",
      "aria-pressed": "false",
      onclick: () => {
        if (rolesShown.has(role)) rolesShown.delete(role);
        else rolesShown.add(role);
        chip.setAttribute("aria-pressed", String(rolesShown.has(role)));
        changed();
      },
    },
    el("span.swatch", { style: `background:${roleColour(role)}` }),
    `${role} `,
    el("span.quiet", {}, `${groups} · ${percent(share)} of elements`),
  );
  return chip;
}

function groupRow({ pattern: name, items }) {
  const [group] = items;
  const pick = el(
    "button.link",
    { type: "button", "data-group": group.name, onclick: () => selectGroup(group.g) },
    swatch(group.g),
    breakable(name),
  );
  return el(
    "tr",
    {},
    el("td", {}, pick, items.length > 1 ? el("span.quiet", {}, ` ×${items.length}`) : ""),
    el("td", {}, group.role),
    el("td", {}, symmetry(group)),
    el("td.quiet", {}, [...new Set(group.on.map(([on]) => on.split(".").pop()))].join(", ")),
    el("td.number", {}, count(group.axes)),
    el("td.number", {}, group.log10.toLocaleString("en-US", { minimumFractionDigits: 1 })),
  );
}

function drawPinned() {
  const section = el("section", { "aria-labelledby": "pinned-title" }, el("h2", { id: "pinned-title" }, "Pinned axes"));
  const byReason = new Map();
  D.pinned.forEach(([t, d, why]) => push(byReason, why.split(": ").slice(-1)[0], [t, d]));
  for (const [why, axes] of byReason) {
    section.append(
      el("h3", {}, why),
      el(
        "ul.axes",
        {},
        fold(axes, ([t, d]) => axisName(t, d)).map((row) => axisRow(row, select)),
      ),
    );
  }
  if (D.unreached.length) {
    section.append(
      el("h3", {}, "not reached by the forward pass, left as they are"),
      el(
        "ul.axes",
        {},
        fold(D.unreached, (t) => D.names[t]).map((row) => el("li", {}, row.pattern)),
      ),
    );
  }
  if (D.unread.length) {
    section.append(
      el("h3", {}, "not read by the forward pass at these shapes"),
      el(
        "ul.axes",
        {},
        D.unread.map((part) => el("li", {}, part)),
      ),
    );
  }
  if (!D.pinned.length && !D.unreached.length && !D.unread.length) section.append(el("p.quiet", {}, "No axis is pinned as a whole."));
  return section;
}

// A row of axes that differ only in their numbers: one button, or a fold with a button each.
function axisRow({ pattern: name, items }, use, isChosen = () => false) {
  const button = (axis, text) =>
    el(
      "button.link",
      { type: "button", "data-to": axisKey(...axis), "aria-pressed": String(isChosen(axis)), onclick: () => use(axis) },
      breakable(text),
    );
  if (items.length === 1) return el("li", {}, button(items[0], name));
  const rest = el(
    "details",
    { open: items.some(isChosen) },
    el("summary", {}, breakable(name), el("span.quiet", {}, ` ×${items.length}`)),
  );
  const fill = () =>
    rest.childElementCount > 1 ||
    rest.append(
      el(
        "ul.axes",
        {},
        items.map((axis) => el("li", {}, button(axis, axisName(...axis)))),
      ),
    );
  rest.addEventListener("toggle", fill);
  if (rest.open) fill();
  return el("li", {}, rest);
}
