// The offline page: all views of the widget over the messages in the page. It makes no network requests.

import manifests from "virtual:drawer-manifests";
import * as core from "./app/coreExports";
import { mount } from "./app/mount";
import { createOfflineHost } from "./core/offlineHost";
import { unpack } from "./core/packedRun";
import { views } from "./drawers";

/** The text of one of the page's data blocks. */
function block(id: string): string {
  return document.getElementById(id)?.textContent ?? "";
}

/** The packed messages, which the page holds as base64 of gzip. */
async function packed(): Promise<Uint8Array> {
  const bytes = Uint8Array.from(atob(block("dv-run")), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function show(): Promise<void> {
  const main = document.querySelector("main");
  if (!main) return;
  try {
    const messages = unpack(await packed());
    const host = createOfflineHost(messages, JSON.parse(block("dv-traits")), new AbortController().signal);
    mount(host, main, { manifests, views, core });
    reportHeight(main);
  } catch (error) {
    main.textContent = `This page is damaged: ${error instanceof Error ? error.message : error}`;
  }
}

/** Reports the height of the page to the frame's owner, as `widget.static()` needs it. */
function reportHeight(main: HTMLElement): void {
  if (window.parent === window) return;
  const { marginTop, marginBottom } = getComputedStyle(document.body);
  const margin = Number.parseFloat(marginTop) + Number.parseFloat(marginBottom);
  new ResizeObserver(() => {
    window.parent.postMessage({ diffvisHeight: main.getBoundingClientRect().height + margin }, "*");
  }).observe(main);
}

void show();
