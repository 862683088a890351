"""The style sheet of a report."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1d1f23,#ecedef);--soft:light-dark(#5b616b,#a5abb5);
--line:light-dark(#e3e5e8,#2c2f34);--fill:light-dark(#f4f5f7,#1d1f23)}
body{margin:24px auto;max-width:1000px;padding:0 16px;font:14px/1.5 system-ui,sans-serif;
background:light-dark(#fff,#141518);color:var(--ink)}
h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:17px;margin:36px 0 8px}
h3{font-size:14px;margin:18px 0 6px;overflow-wrap:anywhere}p{margin:6px 0 10px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 18px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;white-space:nowrap}td{overflow-wrap:anywhere;min-width:48px}
.facts th{font-weight:400;color:var(--soft);white-space:normal;min-width:90px}.found td{font-weight:600}
.wide{overflow-x:auto}.quiet{color:var(--soft);max-width:760px}
pre{margin:0 0 10px;padding:10px 12px;border-radius:6px;background:var(--fill);overflow-x:auto}
code{font:12.5px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(290px,100%),1fr));gap:20px 24px}
figure{margin:0;display:flex;flex-direction:column;justify-content:space-between}
figcaption{font-size:13px;margin-bottom:4px}figcaption b{font-weight:600}svg{width:100%;height:auto;display:block}
svg .axis{font:11px system-ui,sans-serif;fill:var(--soft)}svg .grid{fill:none;stroke:var(--line)}
svg .unrelated{fill:light-dark(#8a8f98,#9aa0aa);fill-opacity:.22}
.keys{display:flex;flex-wrap:wrap;gap:4px 16px}.key{display:inline-flex;align-items:center;gap:6px}
.key i{width:12px;height:12px;border-radius:3px}
.images{display:flex;flex-wrap:wrap;gap:8px 20px}.images figure{display:block;max-width:100%}
.images figcaption{font-size:12px;color:var(--soft);margin:0 0 3px;overflow-wrap:anywhere}
.images figure>div{display:flex;flex-wrap:wrap;gap:6px}
.images span{width:88px;font-size:11px;line-height:1.5;color:var(--soft)}
.images :is(img,i){width:88px;height:88px;object-fit:cover;border-radius:5px;display:grid;place-items:center;
background:var(--fill);color:var(--soft);font-size:12px;font-style:normal}
.means th[scope=row]{font-weight:400;min-width:150px}.means td{white-space:nowrap}
small{display:block;font-size:12px;color:var(--soft);white-space:normal}
iframe{width:100%;height:760px;border:1px solid var(--line);border-radius:6px}
summary{cursor:pointer;padding:4px 0;overflow-wrap:anywhere}
"""
