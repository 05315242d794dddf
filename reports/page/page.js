// The filter, and what opens. Without it everything is there, in one table.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const filter = document.querySelector(".filter");
  if (filter) {
    const rows = [...document.querySelectorAll(".rows > tbody")];
    const boxes = [...filter.querySelectorAll("[name=verdict]")];
    const texts = new Map();
    const textOf = (row) => {
      if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
      return texts.get(row);
    };
    const shown = () => rows.filter((row) => !row.hidden);
    const apply = () => {
      const wanted = byId("q").value.toLowerCase().split(/\s+/).filter(Boolean);
      const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      const lane = byId("lane").value;
      for (const row of rows) {
        row.hidden = !verdicts.has(row.className) || (lane !== "" && row.dataset.lane !== lane)
          || !wanted.every((word) => textOf(row).includes(word));
      }
      byId("shown").textContent = `${shown().length} of ${rows.length} paths shown`;
    };
    const openAll = (open) => {
      for (const row of shown()) row.querySelector("details").open = open;
    };
    const reset = () => {
      byId("q").value = "";
      byId("lane").value = "";
      for (const box of boxes) box.checked = true;
      apply();
    };
    filter.hidden = false;
    filter.addEventListener("input", apply);
    byId("open").addEventListener("click", () => openAll(true));
    byId("close").addEventListener("click", () => openAll(false));
    byId("reset").addEventListener("click", reset);

    // A lane of the picture shows its rows; the select does the same for the keyboard.
    const picture = document.querySelector(".picture");
    if (picture) {
      picture.classList.add("clicks");
      picture.addEventListener("click", (event) => {
        const lane = event.target.closest("[data-lane]");
        if (!lane) return;
        reset();
        byId("lane").value = lane.dataset.lane;
        apply();
        byId("paths").scrollIntoView();
      });
    }

    // A link to a row opens it, and shows it where the filter hid it.
    const follow = () => {
      const row = /^#r\d+$/.test(location.hash) && byId(location.hash.slice(1));
      if (!row) return;
      if (row.hidden) reset();
      row.querySelector("details").open = true;
      row.scrollIntoView();
    };
    addEventListener("hashchange", follow);
    follow();
    apply(); // a browser that comes back fills the fields in
  }
})();
