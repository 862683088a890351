// Runs each network once before the first run. Browsers compile a second time, for speed, what has run: the first run then
// need not wait for that.

import type { Model } from "./decision";
import { type Defaults, readRequest } from "./request";
import { Sampler } from "./sampler";

/** Yields between its parts, so that a request does not have to wait for all of them. */
export async function* warmUp(model: Model, defaults: Defaults): AsyncGenerator<void> {
  const { networks, settings, tokenizer, meter } = model;
  const { clean } = await new Sampler(networks, settings, tokenizer, readRequest({}, defaults)).step();
  yield;
  const image = await networks.decode(clean);
  yield;
  await meter.score(await networks.imageFeatures(image), []);
}
