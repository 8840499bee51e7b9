// On a phone a table of prose is read row by row: each cell gets the head of its column, and extra.css puts cells below each
// other there. Tables of figures stay tables, which scroll.
for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
  const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  const cells = [...table.querySelectorAll("tbody td")];
  if (heads.length < 3 || !cells.some((cell) => cell.textContent.length > 40)) continue;
  table.dataset.stacked = "";
  for (const cell of cells) {
    if (cell.cellIndex > 0 && heads[cell.cellIndex]) cell.dataset.label = heads[cell.cellIndex];
  }
}
