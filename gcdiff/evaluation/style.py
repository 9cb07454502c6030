"""The style of a report's page: laptop and phone, light and dark."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1c1f24; --soft: #5d6470; --rule: #e4e5e2; --edge: #e9e9e5;
  --model: #0b62c4; --real: #8a6d1d; --wash: #eef3fa; --miss: #c2410c; --strong: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121417; --card: #1a1d21; --ink: #e8e9ea; --soft: #9aa2ad; --rule: #2c3138; --edge: #282c32;
    --model: #6db0ff; --real: #d9b650; --wash: #1b2633; --miss: #fb8a4c; --strong: #0d1117;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header > div, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding: 44px 0 8px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 0 0 4px; letter-spacing: -0.01em; }
h3 { font-size: 16px; margin: 24px 0 8px; }
p { margin: 0 0 12px; max-width: 72ch; }
.soft { color: var(--soft); }
a { color: var(--model); }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 18px 0 0; font-size: 15px; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { margin: 44px 0 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 14px; margin: 24px 0 0; }
.tile, .card { background: var(--card); border: 1px solid var(--edge); border-radius: 12px; }
.tile { padding: 16px 18px; display: flex; flex-direction: column; }
.tile b { display: block; font-size: 32px; line-height: 1.15; font-weight: 600; letter-spacing: -0.02em; }
.tile span { display: block; font-size: 14px; color: var(--soft); line-height: 1.35; }
.tile .name { color: var(--ink); margin-bottom: auto; padding-bottom: 8px; }
.tile .beside { color: var(--real); margin-top: 4px; }
.card { padding: 20px 22px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { padding: 6px 10px; text-align: right; vertical-align: middle; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 500; font-size: 13px; color: var(--soft); border-bottom: 1px solid var(--rule); }
tbody td, tbody th { border-bottom: 1px solid var(--edge); font-weight: 400; }
tbody tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
tr.group th { padding-top: 20px; font-weight: 600; text-align: left; border-bottom: 1px solid var(--rule); }
tr.group:first-child th { padding-top: 8px; }
tr.group small { color: var(--soft); font-weight: 400; font-size: 13px; }
td small, .ends { display: block; font-size: 12.5px; color: var(--soft); white-space: nowrap; }
td .value { font-weight: 600; white-space: nowrap; }
td.real .value { font-weight: 400; }
td.count { white-space: nowrap; color: var(--soft); font-size: 13px; }
.chip { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 9px; vertical-align: -1px;
  box-shadow: inset 0 0 0 1px rgba(128, 128, 128, 0.35); }
.key { display: flex; flex-wrap: wrap; gap: 6px 22px; font-size: 14px; color: var(--soft); margin: 0 0 12px; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.two { display: grid; grid-template-columns: minmax(0, 1.45fr) minmax(0, 1fr); gap: 20px; align-items: start; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 14px; margin-bottom: 16px; }
.cases { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 14px; }
.cases h4 { margin: 0; font-size: 14px; font-weight: 600; }
.cases > div { display: grid; gap: 14px; align-content: start; }
.case { padding: 14px 16px; overflow: visible; }
.case p { font-size: 13.5px; line-height: 1.4; color: var(--soft); margin: 10px 0 0; }
.case .score { display: flex; justify-content: space-between; font-size: 13.5px; margin-bottom: 8px; }
td.plot { width: 250px; }
.goal { font-style: normal; color: var(--soft); font-size: 14px; }
.pictures { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 6px; }
.pictures.wide { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
.pictures.wide figure:first-child { grid-column: 1 / -1; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; }
figcaption { font-size: 11.5px; color: var(--soft); margin-top: 3px; line-height: 1.25; }
details { border-bottom: 1px solid var(--edge); padding: 10px 0; }
details:last-child { border-bottom: 0; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: minmax(120px, 220px) minmax(0, 1fr); gap: 4px 18px; margin: 8px 0;
  font-size: 14px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
footer { padding-top: 40px; padding-bottom: 56px; font-size: 14px; color: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--ink); font-size: 12px; }
svg .name { font-size: 13.5px; font-weight: 600; }
svg .tick { fill: var(--soft); }
svg .rule { stroke: var(--rule); stroke-width: 1; }
svg .level { stroke: var(--real); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .band { fill: var(--real); fill-opacity: 0.1; }
svg .tick.real { fill: var(--real); stroke: none; }
svg .walk { fill: none; stroke: var(--model); stroke-width: 2; stroke-linejoin: round; }
svg .bar { stroke-width: 2; stroke-linecap: round; }
svg .bar.model { stroke: var(--model); }
svg .bar.real { stroke: var(--real); }
svg .dot.model { fill: var(--model); }
svg .dot.real { fill: var(--card); stroke: var(--real); stroke-width: 2; }
svg .column { fill: var(--model); fill-opacity: 0.35; }
svg .empty { fill: var(--rule); fill-opacity: 0.35; }
svg .hit { fill: var(--model); }
svg .miss { fill: var(--miss); }
svg .cell { font-size: 11.5px; }
svg .cell.strong { fill: var(--strong); }
svg.strip { width: 220px; margin-left: 14px; }
@media (max-width: 860px) {
  .two { grid-template-columns: minmax(0, 1fr); }
  .cases { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 620px) {
  main, header > div, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 28px; }
  h1 { font-size: 25px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .tile { padding: 12px 14px; }
  .tile b { font-size: 26px; }
  .card { padding: 14px 14px; }
  .numbers .plot, .numbers .count { display: none; }
  th, td { padding: 7px 6px; }
  .numbers td:first-child { width: 42%; }
  .numbers small { white-space: normal; }
  .wide svg { min-width: 520px; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print { nav { display: none; } .card, .tile { break-inside: avoid; } }
"""
