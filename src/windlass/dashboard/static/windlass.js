// Keeps the numbers fresh, and helps the keyboard. Everything works without it.
"use strict";

function show(numbers) {
  for (const place of document.querySelectorAll("[data-number]")) {
    const text = numbers[place.dataset.number];
    if (text !== undefined && place.textContent !== text) place.textContent = text;
  }
}

function follow() {
  const { live, updates } = document.body.dataset;
  if (!live || !document.querySelector("[data-number]")) return;
  if (updates === "events") {
    const source = new EventSource(live);
    source.addEventListener("message", (event) => show(JSON.parse(event.data)));
    addEventListener("pagehide", () => source.close());
  } else {
    setInterval(async () => {
      if (document.hidden) return;
      const answer = await fetch(live).catch(() => null);
      if (answer && answer.ok) show(await answer.json());
    }, 2000);
  }
}

function select() {
  const all = document.querySelector("[data-all]");
  if (!all) return;
  const boxes = () => document.querySelectorAll('input[name="id"]');
  all.addEventListener("change", () => boxes().forEach((box) => { box.checked = all.checked; }));
}

// j and k go from row to row, x selects, / goes to the filters.
function keys() {
  addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=checkbox]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const field = document.querySelector('form[role="search"] input[name="queue"]');
      if (field) { event.preventDefault(); field.focus(); }
      return;
    }
    const links = [...document.querySelectorAll('tbody td a[href*="/jobs/"]')];
    const row = document.activeElement?.closest("tr");
    const here = links.findIndex((link) => row && row.contains(link));
    if (event.key === "j" || event.key === "k") {
      const next = links[Math.min(links.length - 1, Math.max(0, here + (event.key === "j" ? 1 : -1)))];
      if (next) next.focus();
    } else if (event.key === "x" && row) {
      const box = row.querySelector('input[name="id"]');
      if (box) box.checked = !box.checked;
    }
  });
}

follow();
select();
keys();
