// An image that exists, of one view: given to the kernel, which traces it and shows the maps as a run.

import { bytes, type Context, object, type Session, signal, text, whole } from "../../app/coreExports";
import { Job } from "../job";
import { encode } from "./imageFile";

export const LEVELS = "800, 600, 400, 200";
const MOST_LEVELS = 16;

/** The reply of the kernel that took an image. */
const TAKEN = object({ image: text, height: whole, width: whole });

export interface Taken {
  /** The name of the image in a task. */
  readonly key: string;
  readonly height: number;
  readonly width: number;
  /** The image as the model will see it, as WebP. */
  readonly preview: Uint8Array;
}

const images = new WeakMap<Session, Existing>();

/** The image of a view; the drawer and the stage share it. */
export function existingOf(context: Context): Existing {
  const { session } = context;
  let existing = images.get(session);
  if (!existing) {
    existing = new Existing(context);
    images.set(session, existing);
  }
  return existing;
}

export class Existing {
  readonly taken = signal<Taken | null>(null);
  readonly levels = signal(LEVELS);
  readonly problem = signal("");
  readonly isSending = signal(false);
  /** The levels and the prompt of the run that the kernel has made of the image. */
  readonly traced = signal<{ readonly run: string; readonly levels: readonly number[] } | null>(null);
  readonly job: Job;

  constructor(private readonly context: Context) {
    this.job = new Job(context.session, ({ content }, task) => {
      const run = text((content as { run: unknown }).run, "run");
      this.traced.value = { run, levels: task.levels as number[] };
      context.session.viewState.following.value = true;
    });
  }

  /** Why no image can be traced here; empty where one can. */
  get obstacle(): string {
    const { session } = this.context;
    if (!session.canAsk("image")) return "This page holds no model that could see an image: it takes a notebook.";
    if (!session.traits._can_run.value)
      return "Tracing an image needs the pipeline, and a recorded run has none: use dv.DiffVis(pipe).";
    if (!session.connected.value) return "The kernel is no longer running, so that no image can be traced.";
    return "";
  }

  /** Opens the drawer, gives the image to the kernel, and traces it. Says what is wrong where that fails. */
  async open(file: File | null): Promise<void> {
    const { session, drawers } = this.context;
    const reason = this.obstacle || (file ? "" : "This is no image: use a PNG, a JPEG or a WebP.");
    this.#complain(reason);
    if (reason || !file) return;
    drawers.show("image", session);
    this.job.reset();
    this.isSending.value = true;
    try {
      const data = await encode(file);
      const { content, buffers } = await session.ask({ type: "image", data });
      const { image, height, width } = TAKEN(content, "image");
      this.taken.value = { key: image, height, width, preview: bytes(buffers[0], "image") };
      this.traced.value = null;
      this.trace();
    } catch (error) {
      this.#complain(error instanceof Error ? error.message : String(error));
    }
    this.isSending.value = false;
  }

  /** Traces the image at the chosen levels, with the prompt of the widget. */
  trace(): void {
    const { session } = this.context;
    const taken = this.taken.value;
    if (!taken) return;
    const parts = this.levels.value.split(/[\s,;]+/).filter(Boolean);
    const levels = [...new Set(parts.map(Number))];
    if (levels.length < 1 || levels.length > MOST_LEVELS || !levels.every((level) => Number.isInteger(level))) {
      this.#complain(
        `levels is “${this.levels.value.trim()}”: it must be 1 to ${MOST_LEVELS} whole numbers, such as ${LEVELS}.`,
      );
      return;
    }
    this.#complain("");
    const prompt = session.traits.prompt.value;
    this.job.start({ kind: "image", image: taken.key, prompt, levels: levels.sort((a, b) => b - a) });
  }

  /** In the drawer, and where that is not open, under the prompt. */
  #complain(problem: string): void {
    this.problem.value = problem;
    const { drawers, problem: line } = this.context;
    const isSeen = drawers.open.peek().includes("image") && this.context.session.store.shown.peek() !== null;
    line.value = isSeen ? "" : problem;
  }
}
