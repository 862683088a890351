// Runs the engine of a page in Node, for comparisons with Python:
//     node engineRuns.mjs model.bin.gz engine.wasm.gz requests.json
// A request is the settings of a run, its concepts and the steps to score; each run is one line of output.

import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { unpack } from "../src/core/packedRun";
import { meanMaps } from "../src/engine/heatMaps";
import { Meter } from "../src/engine/meter";
import { NETWORKS, type NetworkFiles, type NetworkName, Networks } from "../src/engine/networks";
import { readRequest } from "../src/engine/request";
import { Sampler } from "../src/engine/sampler";
import { readSettings } from "../src/engine/settings";
import { Tokenizer } from "../src/engine/tokenizer";

const [model = "", wasm = "", requests = ""] = process.argv.slice(2);
const { content, buffers } = unpack(gunzipSync(await readFile(model)))[0] as ReturnType<typeof unpack>[number];
const settings = readSettings(content, "settings");
const files = Object.fromEntries(
  NETWORKS.map((name, i) => [name, { graph: buffers[2 * i], weights: buffers[2 * i + 1] }]),
) as unknown as Record<NetworkName, NetworkFiles>;
const program = new Uint8Array(gunzipSync(await readFile(wasm))).buffer;
const networks = await Networks.load(program, files, () => undefined);
const tokenizer = new Tokenizer(settings.merges);
const meter = new Meter(networks, settings, tokenizer);
const defaults = { steps: settings.default_steps, guidance_scale: settings.default_guidance_scale };

for (const { concepts, scored, ...values } of JSON.parse(await readFile(requests, "utf8"))) {
  const sampler = new Sampler(networks, settings, tokenizer, readRequest(values, defaults));
  const maps: number[][] = [];
  const refined: number[][] = [];
  const cosines: (readonly number[])[] = [];
  while (!sampler.isDone) {
    const step = await sampler.step();
    maps.push([...meanMaps(step.maps, settings.layers)]);
    refined.push([...step.refined]);
    if (!scored.includes(step.index)) continue;
    const features = await networks.imageFeatures(await networks.decode(step.clean));
    cosines.push((await meter.score(features, concepts)).cosine);
  }
  const image = [...(await networks.decode(sampler.latents))];
  const result = { words: sampler.words, latents: [...sampler.latents], image, maps, refined, cosines };
  // Waits for the reader: the networks let no event in, so that everything would be kept until the last run.
  await new Promise((resolve) => process.stdout.write(`${JSON.stringify(result)}\n`, resolve));
}
