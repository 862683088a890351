// The development page: the widget in a plain page, with a fake kernel that plays a fixture.
// ?theme=dark &width=720 &state=done|idle|loading|queued|running|failed|gone|live &fixture=long|large|short|unmapped|encoders &step=12 &shadow

import manifests from "virtual:drawer-manifests";
import * as core from "../src/app/coreExports";
import { mount } from "../src/app/mount";
import type { Host, TraitName, Traits } from "../src/core/host";
import { pack } from "../src/core/packedRun";
import type { Message, PageMessage } from "../src/core/protocol";
import * as script from "../src/drawers";
import { EDITED, ENCODERS, type Fixture, LARGE, LONG, layersOf, record, SCENE, SHORT, UNMAPPED } from "./fixture";

class MadeUpKernel implements Host {
  readonly signal = new AbortController().signal;
  readonly isOffline = false;
  readonly sent: PageMessage[] = [];
  seq = 0;
  #run = 0;
  #traits: Partial<Traits>;
  #changes = new Map<TraitName, (() => void)[]>();
  #messages: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  #connections: ((connected: boolean) => void)[] = [];
  #fixture: Fixture;
  readonly #played: { readonly id: string; readonly fixture: Fixture; readonly messages: Message[] }[] = [];

  constructor(fixture: Fixture) {
    this.#fixture = fixture;
    this.#traits = {
      prompt: fixture.prompt,
      seed: 7,
      steps: fixture.steps,
      guidance_scale: 7.5,
      concepts: fixture.concepts,
      step: 0,
      selected: [],
      status: "idle",
      progress: 0,
      error: "",
      _notice: "",
      _can_run: true,
    };
  }

  get<K extends TraitName>(name: K): Traits[K] | undefined {
    return this.#traits[name] as Traits[K] | undefined;
  }

  set(values: Partial<Traits>): void {
    this.write(values);
  }

  write(values: Partial<Traits>): void {
    Object.assign(this.#traits, values);
    for (const name of Object.keys(values) as TraitName[]) for (const tell of this.#changes.get(name) ?? []) tell();
  }

  send(message: PageMessage): void {
    this.sent.push(message);
    if (message.type === "run") {
      const { type: _, ...values } = message;
      this.write(values);
      void this.play(60);
    }
    if (message.type === "layers") this.deliver(layersOf(this.#fixture, message));
    if (message.type === "runs") this.#tellRuns(message.id);
    if (message.type === "packed") {
      const found = this.#played.find(({ id }) => id === message.run);
      this.deliver({ content: { type: "packed", id: message.id }, buffers: [pack(found?.messages ?? [])] });
    }
    if (message.type === "compare") this.#tellNumbers(message.id);
    if (message.type === "stop") {
      this.#run++;
      setTimeout(() => this.write({ status: "stopped" }), 60);
    }
  }

  #tellRuns(id: number): void {
    const runs = this.#played.map(({ id: run, fixture }, i) => ({
      run,
      prompt: fixture.prompt,
      seed: 7,
      steps: fixture.steps,
      guidance_scale: 7.5,
      schedule: i ? "early" : "uniform",
      schedule_strength: 60,
      weights: i ? { red: 1.5, above: null } : {},
      state: "done",
      finished: fixture.steps,
      has_image: true,
    }));
    const last = ({ messages, fixture }: { messages: Message[]; fixture: Fixture }) =>
      messages.findLast(({ content }) => (content as { index?: number }).index === fixture.steps - 1);
    const buffers = this.#played.map((played) => last(played)?.buffers[0] as Uint8Array);
    this.deliver({ content: { type: "runs", id, limit: 8, runs }, buffers });
  }

  #tellNumbers(id: number): void {
    const steps = SCENE.steps;
    const words = EDITED.words.map((_, i) => {
      const change = i === 5 ? "added" : i === 6 ? "recontainerd" : "same";
      return { a: i === 5 ? null : i < 5 ? i + 1 : i, b: i + 1, change };
    });
    const distance = Array.from({ length: steps }, (_, i) => 0.9 / (1 + Math.exp((14 - i) / 2)) + 0.03);
    const maps = distance.map((far) =>
      words.map(({ change }, i) => (change === "added" ? null : far * (0.1 + 0.1 * i))),
    );
    const divergence = distance.findIndex((far) => far > 0.2);
    this.deliver({
      content: {
        type: "compare",
        id,
        align: "index",
        steps: distance.map((_, i) => [i, i]),
        words,
        distance,
        threshold: 0.2,
        divergence_step: divergence,
        maps,
        image_difference: 0.1,
      },
      buffers: [],
    });
  }

  onChange(name: TraitName, callback: () => void): void {
    this.#changes.set(name, [...(this.#changes.get(name) ?? []), callback]);
  }

  onMessage(callback: (content: unknown, buffers: readonly ArrayBufferView[]) => void): void {
    this.#messages.push(callback);
  }

  onConnection(callback: (connected: boolean) => void): void {
    this.#connections.push(callback);
    callback(true);
  }

  /** Another prompt for the next run. */
  edit(fixture: Fixture): void {
    this.#fixture = fixture;
    this.write({ prompt: fixture.prompt });
  }

  connect(connected: boolean): void {
    for (const tell of this.#connections) tell(connected);
  }

  deliver({ content, buffers }: Message): void {
    for (const take of this.#messages) take({ ...(content as object), seq: this.seq++ }, buffers);
  }

  /** Plays the fixture up to step `until`; `pace` milliseconds a step. */
  async play(pace: number, until = Number.POSITIVE_INFINITY): Promise<void> {
    const run = ++this.#run;
    this.write({ status: "running" });
    const messages = await record(this.#fixture, `run-${run}`);
    this.#played.push({ id: `run-${run}`, fixture: this.#fixture, messages });
    for (const message of messages) {
      const { type, index } = message.content as { type: string; index?: number };
      if (run !== this.#run) return;
      if (type === "step" && (index ?? 0) >= until) return;
      if (type === "step" && pace > 0) await new Promise((resolve) => setTimeout(resolve, pace));
      this.deliver(message);
    }
    this.write({ status: "done" });
  }
}

const query = new URLSearchParams(location.search);
const theme = query.get("theme") ?? "light";
document.body.dataset.theme = theme;
const cell = document.getElementById("cell") as HTMLElement;
cell.style.width = `${query.get("width") ?? 720}px`;
const fixtures: Readonly<Record<string, Fixture>> = {
  scene: SCENE,
  long: LONG,
  large: LARGE,
  short: SHORT,
  unmapped: UNMAPPED,
  encoders: ENCODERS,
};
const kernel = new MadeUpKernel(fixtures[query.get("fixture") ?? ""] ?? SCENE);
const state = query.get("state") ?? "done";
const until = Number(query.get("until") ?? 12);
Object.assign(window, { kernel });

if (state === "loading") kernel.write({ status: "loading", _notice: "Loading the scenes model" });
if (state === "empty") kernel.write({ prompt: "" });
let container = cell;
if (query.has("shadow")) {
  // As marimo does it.
  const shadow = cell.attachShadow({ mode: "open" });
  const styles = [...document.head.querySelectorAll("link")].map((link) => link.cloneNode());
  container = document.createElement("div");
  shadow.append(...styles, container);
}
mount(kernel, container, { manifests, script, core });
if (state === "done" || state === "gone") await kernel.play(0);
if (state === "live") await kernel.play(80);
if (state === "running" || state === "failed" || state === "stopped") await kernel.play(0, until);
if (state === "edited") {
  await kernel.play(0);
  kernel.edit(EDITED);
  await kernel.play(0);
}
if (state === "queued") kernel.write({ status: "queued", _notice: "Queued: another run is using this model" });
if (state === "stopped") kernel.write({ status: "stopped" });
if (state === "gone") kernel.connect(false);
if (state === "failed") {
  const error =
    "RuntimeError: The size of tensor a (12) must match the size of tensor b (16) at non-singleton dimension 3 <img src=x onerror=alert(1)>";
  kernel.deliver({
    content: { type: "end", run: "run-1", state: "failed", steps: until, error, seconds: 0.9 },
    buffers: [],
  });
  kernel.write({ status: "failed", error });
}
const step = query.get("step");
if (step) kernel.write({ step: Number(step) });
const selected = query.get("selected");
if (selected) kernel.write({ selected: selected.split(",").map(Number) });
document.body.dataset.ready = "true";
