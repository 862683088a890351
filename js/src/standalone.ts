// The page without a kernel: all views of the widget over the messages in the page, and where the page carries the
// model, new runs by its engine. It makes no network requests.

import manifests from "virtual:drawer-manifests";
import * as core from "./app/coreExports";
import { mount } from "./app/mount";
import { createLiveHost } from "./core/liveHost";
import { createOfflineHost } from "./core/offlineHost";
import { unpack } from "./core/packedRun";
import * as drawerScript from "./drawers";

/** The text of one of the page's data blocks. */
function block(id: string): string {
  return document.getElementById(id)?.textContent ?? "";
}

/** The text of a large block, which the page needs only once. */
function takeBlock(id: string): string {
  const text = block(id);
  document.getElementById(id)?.remove();
  return text;
}

/** The packed messages, which the page holds as base64: of gzip, but in a page that paints as they are. */
async function packed(): Promise<Uint8Array> {
  const bytes = Uint8Array.from(atob(block("dv-run")), (c) => c.charCodeAt(0));
  if (bytes[0] !== 0x1f) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function show(): Promise<void> {
  const main = document.querySelector("main");
  if (!main) return;
  try {
    const messages = unpack(await packed());
    const traits = JSON.parse(block("dv-traits"));
    const recorded = createOfflineHost(messages, traits, new AbortController().signal);
    const script = takeBlock("dv-engine");
    const files = {
      script,
      wasm: takeBlock("dv-wasm"),
      model: takeBlock("dv-model"),
      runsAtOnce: messages.length === 0,
    };
    const host = script === "" ? recorded : createLiveHost(recorded, files, traits);
    mount(host, main, { manifests, script: drawerScript, core });
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
