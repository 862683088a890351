// The theme of the host, light or dark. Only reads the host's attributes.

export type Theme = "light" | "dark";

function marked(element: Element): Theme | null {
  const jupyter = element.getAttribute("data-jp-theme-light");
  if (jupyter) return jupyter === "true" ? "light" : "dark";
  const named =
    element.getAttribute("data-vscode-theme-kind") ??
    element.getAttribute("data-theme") ??
    element.getAttribute("theme");
  const names = `${named ?? ""} ${element.getAttribute("class") ?? ""}`;
  if (/(^|[\s-])(dark|high-contrast)($|\s)/.test(names)) return "dark";
  if (/(^|[\s-])(light|high-contrast-light)($|\s)/.test(names)) return "light";
  return null;
}

function outward(element: Element): Element | null {
  if (element.parentElement) return element.parentElement;
  const root = element.getRootNode();
  return root instanceof ShadowRoot ? root.host : null;
}

function detectTheme(element: Element): Theme {
  for (let at: Element | null = element; at; at = outward(at)) {
    const theme = marked(at);
    if (theme) return theme;
  }
  // JupyterLab renders a view before it puts it into the page.
  const theme = marked(document.body) ?? marked(document.documentElement);
  return theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** Calls back with the theme now and whenever it changes. */
export function watchTheme(element: Element, signal: AbortSignal, callback: (theme: Theme) => void): void {
  let last: Theme | undefined;
  const update = () => {
    const theme = detectTheme(element);
    if (theme !== last) callback(theme);
    last = theme;
  };
  const observer = new MutationObserver(update);
  const attributeFilter = ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"];
  for (const root of [document.documentElement, document.body]) observer.observe(root, { attributeFilter });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
  update();
}
