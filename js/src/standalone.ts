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
  } catch (error) {
    main.textContent = `This page is damaged: ${error instanceof Error ? error.message : error}`;
  }
}

void show();
