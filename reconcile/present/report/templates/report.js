// Everything is readable without this: it sorts tables, filters rows, and shows the newest days.
(() => {
  "use strict";
  const status = document.getElementById("told");
  const value = (row, at) => {
    const cell = row.cells[at];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text.replace(/[,\u202f%]/g, ""));
    return Number.isNaN(number) || text === "" ? text : number;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [value(a, at), value(b, at)];
          const order = typeof x === "number" && typeof y === "number"
            ? x - y : String(x).localeCompare(String(y), "en");
          return down ? -order : order;
        });
        table.tBodies[0].append(...rows);
        status.textContent = `Sorted by ${button.textContent}, ${down ? "descending" : "ascending"}.`;
      });
    });
  }
  for (const input of document.querySelectorAll("input[data-filters]")) {
    input.closest("p").hidden = false;
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = `${shown} of ${rows.length} rows shown.`;
    });
  }
  const newest = () => {
    for (const box of document.querySelectorAll(".heat")) box.scrollLeft = box.scrollWidth;
  };
  newest();
  for (const radio of document.querySelectorAll("input[name=measure]")) radio.addEventListener("change", newest);
})();
