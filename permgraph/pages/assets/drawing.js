// Small pieces of the page: elements, numbers, colours, and names that differ only in their numbers as one pattern.
function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") node.style.cssText = value;
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

const count = (n) => n.toLocaleString("en-US");
const percent = (share) =>
  share === 1
    ? "100%"
    : share > 0.9995 && share < 1
      ? ">99.9%"
      : share > 0 && share < 0.0005
        ? "<0.1%"
        : `${(100 * share).toFixed(1)}%`;
const symmetry = (group) => [group.symbol, group.count > 1 ? el("sup", {}, String(group.count)) : ""];

// One hue a role; kinds of one role differ by steps in hue and lightness. OKLCH keeps them equally strong.
const hue = (role) => D.hues[role] ?? D.hues.other;
const STEPS = [
  [0, 0],
  [22, 0.09],
  [-20, -0.07],
  [12, -0.12],
  [-12, 0.12],
  [30, -0.04],
];
const colours = [];

function colourGroups() {
  const kinds = new Map();
  const perRole = {};
  for (const group of D.groups) {
    if (!kinds.has(group.kind)) {
      const order = (perRole[group.role] = (perRole[group.role] ?? -1) + 1);
      const [turn, lift] = STEPS[order % STEPS.length];
      kinds.set(group.kind, `oklch(calc(var(--tone) + ${lift}) 0.14 ${hue(group.role) + turn})`);
    }
    colours.push(kinds.get(group.kind));
  }
}

const colourOf = (group) => (group < 0 ? "var(--still)" : colours[group]);
const swatch = (group) => el("span.swatch", { style: `background:${colourOf(group)}`, "aria-hidden": "true" });
const roleColour = (role) => `oklch(var(--tone) 0.14 ${hue(role)})`;

// A dotted name that may break after its dots.
const breakable = (name) => name.split(/(?<=[._])/).flatMap((part) => [part, el("wbr")]);

// [{pattern, items}] of items with a `name`, in order: layers.0.x, layers.1.x -> layers.0–1.x
function fold(items, nameOf) {
  const found = new Map();
  for (const item of items) push(found, nameOf(item).replace(/\d+/g, "#"), item);
  return [...found.values()].map((members) => ({ pattern: pattern(members.map(nameOf)), items: members }));
}

function pattern(names) {
  const columns = names.map((name) => name.match(/\d+/g) ?? []);
  let k = 0;
  return names[0].replace(/\d+/g, () =>
    ranges(
      [...new Set(columns.map((row) => +row[k]))].sort((a, b) => a - b),
      k++,
    ),
  );
}

function ranges(numbers) {
  const runs = [];
  for (const n of numbers) {
    const last = runs[runs.length - 1];
    if (last && last[1] + 1 === n) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([from, to]) => (from === to ? from : `${from}–${to}`)).join(",");
}
