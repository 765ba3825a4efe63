// Tables that sort by a column: a button in each heading, numbers as numbers, and rows of details behind their row.
function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (!heading.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.append(button);
  });
}

function sortBy(table, heading, column) {
  const way = heading.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", way);
  const value = (row) => row.cells[column]?.textContent.trim() ?? "";
  const number = (text) => (text ? Number(text.replace(/[,%×]/g, "").replace("−", "-").split(" ")[0]) : NaN);
  const sign = way === "ascending" ? 1 : -1;
  for (const body of table.tBodies) {
    const blocks = [];
    for (const row of body.rows) {
      if (row.classList.contains("layers")) blocks[blocks.length - 1].push(row);
      else blocks.push([row]);
    }
    blocks.sort(([x], [y]) => {
      const [a, b] = [number(value(x)), number(value(y))];
      return sign * (Number.isNaN(a) || Number.isNaN(b) ? value(x).localeCompare(value(y)) : a - b);
    });
    body.append(...blocks.flat());
  }
}
