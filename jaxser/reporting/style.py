"""How pages look, on screens from 390 pixels on, light and dark, and on A4 paper; and how tables
sort."""

__all__ = ["SCRIPT", "STYLE"]

# Series are the colours of figures.canvas, lighter on a dark page.
STYLE = """
:root { color-scheme: light dark;
  --ink: light-dark(#1b1b1b, #e4e4e4); --paper: light-dark(#fff, #16181b);
  --soft: light-dark(#f3f4f6, #22262b); --line: light-dark(#c9ccd1, #454b54);
  --grey: light-dark(#707780, #9aa2ad); --doubt: light-dark(#b45309, #f0a03c);
  --series-0: light-dark(#0072b2, #4db1ec); --series-1: light-dark(#d55e00, #ff8a45);
  --series-2: light-dark(#009e73, #33c99c); --series-3: light-dark(#b8598f, #e39ac3);
  --series-4: light-dark(#b87a00, #f2b632); --series-5: light-dark(#3a93c9, #8ccff5); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem;
  padding: 1rem 1rem 4rem; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.4rem; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 48rem; overflow-wrap: anywhere; }
a { color: var(--series-0); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1rem 0; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit,
  minmax(min(100%, 24rem), 1fr)); }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem;
  background: var(--soft); }
.card h2 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.answer { display: flex; flex-wrap: wrap; gap: .25rem 2rem; margin: 0 0 .75rem; }
.answer div { display: flex; flex-direction: column-reverse; }
.answer dt { color: var(--grey); font-size: .875rem; }
.answer dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
.answer div:last-child dd { font-size: 2.25rem; line-height: 1.2; }
.answer small { font-weight: 400; font-size: .875rem; white-space: nowrap; }
.facts { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem;
  margin: 0; }
.facts dt { color: var(--grey); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.note, .doubt { border-left: 4px solid var(--grey); padding-left: .75rem; }
.doubt { border-color: var(--doubt); }
.small, .same { font-size: .875rem; }
.same { color: var(--grey); max-width: none; margin: .5rem 0; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .8125rem; }
.hidden { position: absolute; clip-path: inset(50%); }
caption { text-align: left; padding: .5rem 0; font-weight: 600; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; vertical-align: top; }
th { background: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
th.text, td.text { text-align: left; }
td.long { white-space: normal; min-width: 12rem; max-width: 30rem; overflow-wrap: anywhere; }
td small { color: var(--grey); font-size: .75rem; }
tbody tr:hover { background: var(--soft); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; align-items: start; }
svg { fill: var(--ink); width: calc(var(--width) * 2px); max-width: 100%; height: auto; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure { margin: .5rem 1.5rem .5rem 0; display: inline-block; } audio { max-width: 100%; }
@media (max-width: 40rem) {
  th, td { padding: .3rem .35rem; } td small { display: block; }
  td.text { white-space: normal; } td.long { min-width: 7rem; }
  /* Of a broad figure the letters stay legible, and it scrolls. */
  .pictures { overflow-x: auto; } svg.broad { max-width: none; width: 42rem; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: .4rem; }
}
@page { size: A4; margin: 14mm 12mm; }
@media print {
  :root { color-scheme: only light; font-size: 12px; }
  body { font-size: 1rem; padding: 0; max-width: none; } nav, audio { display: none; }
  h2, h3, caption { break-after: avoid; } h2 { margin-top: 1.2rem; }
  .wide { overflow: visible; } .small { font-size: .875rem; } .same { color: var(--ink); }
  table { width: 100%; font-size: 7pt; } thead { display: table-header-group; }
  tbody tr:first-child { break-before: avoid; }
  thead, tr, .card, svg, img, figure { break-inside: avoid; }
  th, td, td small { white-space: normal; padding: .1rem .2rem; font-size: 6.5pt; }
  td small { white-space: nowrap; } td.text { overflow-wrap: anywhere; }
  td.long { min-width: 6rem; }
  /* A button is not painted again where its header stands on the next page, too. */
  th button { display: none; } th::before { content: attr(data-name); }
  th, .card { print-color-adjust: exact; }
  svg { width: calc(var(--width) * 1.2px); }
}
"""

# Numbers by their value, what is no number after them, and text by the alphabet.
SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentNode, body = head.closest("table").tBodies[0];
  const up = head.ariaSort !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.ariaSort = up ? "ascending" : "descending";
  const key = row => {
    const text = row.cells[head.cellIndex].textContent, number = parseFloat(text.replace(/,/g, ""));
    return head.classList.contains("text") ? text : isNaN(number) ? Infinity : number;
  };
  const rows = [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    return (up ? 1 : -1) * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
};
"""
