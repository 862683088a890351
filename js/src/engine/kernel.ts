// The kernel inside the page: it answers the messages that a notebook's kernel answers, and runs the model.
// One task at a time; between two tasks messages arrive, so that the latest request wins and Stop ends a run at its next
// step. The images that sampling showed as previews are decoded exactly in idle time.

import type { Traits } from "../core/host";
import { pack } from "../core/packedRun";
import type { KernelRequest, Message, Note, PageMessage } from "../core/protocol";
import { compareReply } from "./comparison";
import type { Model } from "./decision";
import { type DecodedView, EngineRun, type ShownStep } from "./engineRun";
import { breathe, JobQueue, type Task } from "./jobs";
import { Meter } from "./meter";
import type { Networks } from "./networks";
import { NEEDS_NOTEBOOK, prepareJob } from "./prepareJob";
import { Preview } from "./preview";
import { type Defaults, presentWeights, readConcepts, readRequest, reason } from "./request";
import { Sampler } from "./sampler";
import { noiseLevels } from "./scheduler";
import type { EngineSettings } from "./settings";
import { fileStem, runSource } from "./sourceCode";
import { Tokenizer } from "./tokenizer";
import { planRuns, type Waiting } from "./waitingRuns";
import { warmUp } from "./warmUp";

/** Runs that are kept: nine seeds, and some runs before and after them. */
const RUNS = 12;
/** Exact decodes may take this share of the time while a run samples; the other steps show a preview. */
const DECODE_SHARE = 0.15;

export interface Output {
  send(message: Message): void;
  setTraits(traits: Partial<Traits>): void;
}

type Request = Extract<PageMessage, { readonly id: number }>;

export class EngineKernel {
  readonly #model: Model;
  readonly #warmUp: AsyncGenerator<void>;
  readonly #preview = new Preview();
  readonly #traits: Record<string, unknown> = {};
  readonly #history: EngineRun[] = [];
  readonly #jobs = new JobQueue();
  readonly #defaults: Defaults;
  #requested: Waiting | null = null;
  /** The runs after it, which were requested together with it. */
  #following: readonly Waiting[] = [];
  #active: EngineRun | null = null;
  #shown: EngineRun | null = null;
  #isStopping = false;
  #isWorking = false;
  #concepts: readonly string[] = [];
  #focus = 0;
  #runs = 0;
  #seq = 0;

  constructor(
    private readonly networks: Networks,
    private readonly settings: EngineSettings,
    private readonly output: Output,
  ) {
    const tokenizer = new Tokenizer(settings.merges);
    this.#model = { networks, settings, tokenizer, meter: new Meter(networks, settings, tokenizer) };
    this.#defaults = { steps: settings.default_steps, guidance_scale: settings.default_guidance_scale };
    this.#warmUp = warmUp(this.#model, this.#defaults);
  }

  /** Takes traits that the page has set. */
  set(values: Partial<Traits>): void {
    try {
      if (values.concepts !== undefined) this.#setConcepts(readConcepts(values.concepts));
      if (typeof values.step === "number") this.#focus = values.step;
      const next = { ...this.#traits, ...values };
      readRequest(next, this.#defaults);
      Object.assign(this.#traits, values);
    } catch (error) {
      this.#send({ content: { type: "error", run: null, id: null, message: reason(error) }, buffers: [] });
      const names = Object.keys(values).filter((name) => name in this.#traits);
      this.output.setTraits(Object.fromEntries(names.map((name) => [name, this.#traits[name]])));
    }
    void this.#work();
  }

  receive(message: PageMessage): void {
    if (message.type === "hello") this.#hello(message.run, message.have);
    else if (message.type === "run") this.#run(message);
    else if (message.type === "stop") this.#stop();
    else if (message.type === "show") this.#show(message.run);
    else if ("id" in message) this.#answer(message);
  }

  /** Whether a run is kept here. */
  has(run: string): boolean {
    return this.#find(run) !== undefined;
  }

  // -- messages of the page -------------------------------------------------------------------------------------------

  #hello(run: string | null, have: readonly number[]): void {
    const current = this.#active ?? this.#shown;
    if (!current) return;
    for (const message of current.messages()) {
      const { type, index } = message.content as { readonly type: string; readonly index?: number };
      const isThere = run === current.id && type === "step" && have.includes(index as number);
      if (!isThere) this.#send(message);
    }
  }

  #run({ type: _, seeds = 0, draft = false, ...values }: Extract<PageMessage, { readonly type: "run" }>): void {
    try {
      const settings = { ...this.#traits, ...values };
      const request = readRequest(settings, this.#defaults);
      // An impossible schedule is refused before the current run ends.
      noiseLevels(request.schedule, request.steps, request.schedule_strength, this.settings.sigmas);
      [this.#requested = null, ...this.#following] = planRuns(request, { seeds, draft }, () => `page-${++this.#runs}`);
      this.#jobs.cancelAll();
      Object.assign(this.#traits, settings);
      this.output.setTraits(request);
      if (seeds > 0)
        this.output.setTraits({ _sheet: [this.#requested, ...this.#following].map((run) => run?.id ?? "") });
      this.output.setTraits({ status: this.#active ? "stopping" : "queued", error: "" });
      this.#isStopping = this.#active !== null;
      void this.#work();
    } catch (error) {
      this.#send({ content: { type: "error", run: null, id: null, message: reason(error) }, buffers: [] });
    }
  }

  #stop(): void {
    this.#requested = null;
    this.#following = [];
    this.#isStopping = this.#active !== null;
    this.output.setTraits({ status: this.#active ? "stopping" : "stopped" });
  }

  #show(id: string): void {
    const run = this.#find(id);
    if (!run || this.#active) return;
    this.#shown = run;
    const { request } = run;
    this.output.setTraits({ ...request, weights: presentWeights(request), status: run.state as Traits["status"] });
    Object.assign(this.#traits, request);
    for (const message of run.messages()) this.#send(message);
    void this.#work();
  }

  #answer({ id, ...request }: Request): void {
    try {
      this.#send(this.#reply(id, request as KernelRequest));
    } catch (error) {
      this.#send({ content: { type: "error", run: null, id, message: reason(error) }, buffers: [] });
    }
  }

  #reply(id: number, request: KernelRequest): Message {
    switch (request.type) {
      case "layers":
        return this.#get(request.run).layersMessage(id, request.step, request.word);
      case "packed":
        return {
          content: { type: "packed", id, run: request.run },
          buffers: [pack(this.#get(request.run).messages())],
        };
      case "compare":
        return { content: compareReply(id, this.#get(request.a), this.#get(request.b)), buffers: [] };
      case "runs":
        return this.#runsReply(id);
      case "notes":
        return this.#setNotes(id, this.#get(request.run), request.notes);
      case "source_code":
        return {
          content: { ...request, id, python: runSource(this.#get(request.run).request), file: null },
          buffers: [],
        };
      case "exports":
        return {
          content: { ...request, id, kinds: [], name: fileStem(this.#get(request.run).request.prompt) },
          buffers: [],
        };
      case "saliency":
        return this.#saliencyReply(id, this.#get(request.run));
      case "relevance":
        return { content: { ...request, id, curves: [] }, buffers: [] };
      case "decisions": {
        const { decisions } = this.#get(request.run);
        const content = { ...request, id, decisions: decisions.map((curve) => curve.content) };
        return { content, buffers: decisions.flatMap((curve) => curve.buffers) };
      }
      case "job":
        return this.#jobReply(id, request.task);
      case "cancel":
        this.#jobs.cancel(request.task);
        return { content: { type: "cancel", id }, buffers: [] };
      default:
        throw new Error(NEEDS_NOTEBOOK);
    }
  }

  #jobReply(id: number, task: Task): Message {
    const job = this.#jobs.ask(task, (wanted) => prepareJob(this.#model, wanted, (run) => this.#get(run)));
    void this.#work();
    const { content, buffers } = job.state === "done" ? job.result : { content: {}, buffers: [] };
    const { state, progress, error, secondsLeft: seconds_left } = job;
    return { content: { ...content, type: "job", id, state, progress, seconds_left, error }, buffers };
  }

  #saliencyReply(id: number, run: EngineRun): Message {
    const maps = run.saliency.map(({ entry }) => entry);
    const data = Uint8Array.from(run.saliency.flatMap((map) => [...map.data]));
    return {
      content: { type: "saliency", run: run.id, id, methods: this.settings.methods, maps },
      buffers: [data],
    };
  }

  #runsReply(id: number): Message {
    const runs = this.#history.map((run) => ({
      ...run.request,
      weights: presentWeights(run.request),
      steps: run.planned,
      run: run.id,
      state: run.state,
      finished: run.steps.length,
      has_image: true,
      notes: run.notes.length,
    }));
    const buffers = this.#history.map((run) => run.stepMessage(run.steps.length - 1).buffers[0] as Uint8Array);
    return { content: { type: "runs", id, limit: RUNS, runs }, buffers };
  }

  #setNotes(id: number, run: EngineRun, notes: readonly Note[]): Message {
    run.notes = notes;
    this.#send(run.runMessage());
    return { content: { type: "notes", id }, buffers: [] };
  }

  #find(id: string): EngineRun | undefined {
    return [this.#active, this.#shown, ...this.#history].find((run) => run?.id === id) ?? undefined;
  }

  #get(id: string): EngineRun {
    const run = this.#find(id);
    if (!run) throw new Error("this page no longer holds that run");
    return run;
  }

  // -- the work -------------------------------------------------------------------------------------------------------

  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    try {
      for (;;) {
        await breathe();
        const job = this.#jobs.next;
        if (this.#requested) await this.#perform(this.#requested);
        else if (job) await job.run(breathe);
        else if (!(await this.#catchUp()) && (await this.#warmUp.next()).done) return;
      }
    } finally {
      this.#isWorking = false;
    }
  }

  async #perform({ id, request, part }: Waiting): Promise<void> {
    this.#requested = null;
    this.#isStopping = false;
    const started = performance.now();
    const elapsed = () => (performance.now() - started) / 1000;
    let run: EngineRun | null = null;
    try {
      const { networks, settings } = this;
      const sampler = new Sampler(networks, settings, this.#model.tokenizer, request, undefined, this.#concepts);
      run = new EngineRun(id, request, sampler.words, sampler.planned, settings, part === "draft");
      this.#active = run;
      if (part === "seeds") {
        // Each of several seeds is shown as it is painted.
        this.#traits.seed = request.seed;
        this.output.setTraits({ seed: request.seed });
      }
      this.output.setTraits({ status: "running", progress: 0, error: "", _notice: "" });
      this.#send(run.runMessage());
      let decoding = 0;
      while (!sampler.isDone && !this.#isStopping) {
        const record = await sampler.step();
        const before = elapsed();
        // The first step is shown as soon as it can be.
        const isInTime = record.index > 0 && decoding < DECODE_SHARE * before;
        const isExact = !this.#preview.isFitted || sampler.isDone || isInTime;
        const image = isExact ? await this.networks.decode(record.clean) : this.#preview.image(record.clean);
        if (isExact) this.#preview.fit(record.clean, image);
        this.#send(run.addStep(record, image, this.#preview.image(record.latents), isExact, elapsed()));
        this.output.setTraits({ progress: run.steps.length / run.planned });
        if (isExact) {
          await this.#score(run, record.index, image);
          decoding += elapsed() - before;
        }
        await breathe();
      }
      const image = sampler.isDone ? await this.networks.decode(sampler.latents) : null;
      this.#end(run, sampler.isDone ? "done" : "stopped", elapsed(), null, image);
    } catch (error) {
      if (run) this.#end(run, "failed", elapsed(), reason(error), null);
      else {
        this.#following = [];
        this.output.setTraits({ status: "failed", error: reason(error), _notice: reason(error) });
      }
    }
  }

  #end(
    run: EngineRun,
    state: "done" | "stopped" | "failed",
    seconds: number,
    error: string | null,
    image: Uint8Array | null,
  ): void {
    this.#send(run.endMessage(state, seconds, error, image));
    this.#active = null;
    this.#isStopping = false;
    if (state !== "done") this.#following = [];
    else if (!this.#requested) [this.#requested = null, ...this.#following] = this.#following;
    if (run.steps.length > 0) {
      this.#shown = run;
      // A draft gives way to the run that follows it.
      if (!run.isDraft || !this.#requested) this.#history.push(run);
      this.#history.splice(0, this.#history.length - RUNS);
    }
    if (this.#requested) this.output.setTraits({ status: "queued" });
    else this.output.setTraits({ status: state, error: error ?? "" });
  }

  /** Decodes or scores one step of the shown run; false where nothing is left to do. */
  async #catchUp(): Promise<boolean> {
    const run = this.#shown;
    if (!run) return false;
    if (run.inexact.prediction.size > 0) return this.#decodeNearest(run, "prediction");
    if (run.scoredConcepts !== this.#concepts) this.#startScores(run);
    const unscored = run.steps.findIndex(({ image }, index) => image && !run.scores[index]);
    if (this.#concepts.length === 0 || unscored < 0) return this.#decodeNearest(run, "latents");
    await this.#scoreStep(run, unscored);
    // Once, when all are there: a message for each step would redraw the meters for each.
    if (run.steps.every((_, index) => run.scores[index]))
      for (const message of run.scoreMessages()) this.#send(message);
    return true;
  }

  /** Decodes the image of the step nearest to the one that is looked at; false if none is missing. */
  async #decodeNearest(run: EngineRun, view: DecodedView): Promise<boolean> {
    const distance = (index: number) => Math.abs(index - this.#focus);
    const index = [...run.inexact[view]].sort((a, b) => distance(a) - distance(b))[0];
    if (index === undefined) return false;
    const { record } = run.steps[index] as ShownStep;
    const image = await this.networks.decode(view === "latents" ? record.latents : record.clean);
    this.#send(run.addFrame(index, view, image));
    if (view === "latents") return true;
    this.#preview.fit(record.clean, image);
    await this.#score(run, index, image);
    return true;
  }

  async #score(run: EngineRun, index: number, image: Uint8Array): Promise<void> {
    (run.steps[index] as ShownStep).image = image;
    if (run.scoredConcepts !== this.#concepts) this.#startScores(run);
    if (this.#concepts.length === 0) return;
    await this.#scoreStep(run, index);
    this.#send(run.scoresMessage(index, index + 1));
  }

  async #scoreStep(run: EngineRun, index: number): Promise<void> {
    const shown = run.steps[index] as ShownStep;
    shown.features ??= (await this.networks.imageFeatures(shown.image as Uint8Array)).slice();
    run.scores[index] = await this.#model.meter.score(shown.features, run.scoredConcepts);
  }

  /** Forgets the scores of other concepts. */
  #startScores(run: EngineRun): void {
    run.scoredConcepts = this.#concepts;
    run.scores.length = 0;
  }

  #setConcepts(concepts: readonly string[]): void {
    this.#concepts = concepts;
    this.output.setTraits({ concepts });
  }

  #send({ content, buffers }: Message): void {
    this.output.send({ content: { ...(content as object), seq: this.#seq++ }, buffers });
  }
}
