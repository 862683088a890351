// Moves along the frames of a video, and plays them: at the last step all frames of the final video, at the others the
// latent frames; with `both`, each time the frames begin anew the step advances by one.

import { type Context, type ReadonlySignal, type Run, signal } from "../../app/coreExports";

/** Frames of the final video per second, and latent frames per second at other steps. */
const VIDEO_RATE = 16;
const RATE = 6;

/** The latent frame that a frame of the video belongs to: the first stands alone. */
function latentFrame(frame: number, run: Run): number {
  const { frames, frames_per_latent: factor } = run.info;
  return Math.min(frames - 1, frame <= 0 ? 0 : 1 + Math.floor((frame - 1) / Math.max(1, factor)));
}

/** The first and the last frame of the video that a latent frame stands for, from 0. */
export function videoFrames(latent: number, run: Run): readonly [first: number, last: number] {
  const factor = Math.max(1, run.info.frames_per_latent);
  return latent === 0 ? [0, 0] : [1 + (latent - 1) * factor, latent * factor];
}

export class FramePlayer {
  readonly #playing = signal(false);
  readonly playing: ReadonlySignal<boolean> = this.#playing;
  /** Whether the steps advance too. */
  readonly both = signal(false);
  #request = 0;
  #due = 0;

  constructor(private readonly context: Context) {}

  /** The run, if it is a video. */
  get run(): Run | null {
    const run = this.context.session.store.shown.value;
    return run && run.info.frames > 1 ? run : null;
  }

  /** The frames of the final video, where the step on the stage is the last one and the video is here. */
  #video(run: Run): readonly Uint8Array[] {
    const isLast = this.context.session.viewState.step.peek() + 1 >= run.length;
    return isLast ? (run.end.peek()?.video ?? []) : [];
  }

  /** Shows a latent frame; beyond an end, that end. */
  goTo(frame: number): void {
    const run = this.run;
    if (!run) return;
    run.videoFrame.value = null;
    run.frame.value = Math.max(0, Math.min(run.info.frames - 1, Math.round(frame)));
  }

  toggle(): void {
    if (this.#playing.value) this.pause();
    else if (this.run) {
      this.context.player.pause();
      this.#playing.value = true;
      this.#due = performance.now();
      this.#request = requestAnimationFrame((now) => this.#tick(now));
    }
  }

  pause(): void {
    this.#playing.value = false;
    cancelAnimationFrame(this.#request);
  }

  #tick(now: number): void {
    const run = this.run;
    if (!this.#playing.value || !run) {
      this.pause();
      return;
    }
    if (now >= this.#due) {
      const video = this.#video(run);
      this.#advance(run, video.length);
      // A tab that was suspended does not catch up.
      this.#due = Math.max(this.#due, now - 50) + 1000 / (video.length > 1 ? VIDEO_RATE : RATE);
    }
    this.#request = requestAnimationFrame((next) => this.#tick(next));
  }

  #advance(run: Run, length: number): void {
    if (length > 1) {
      const shown = run.videoFrame.value ?? videoFrames(run.frame.value, run)[0] - 1;
      const next = (shown + 1) % length;
      if (next === 0 && this.both.value && shown > 0) {
        this.#nextStep(run);
        return;
      }
      run.videoFrame.value = next;
      run.frame.value = latentFrame(next, run);
      return;
    }
    const next = (run.frame.value + 1) % run.info.frames;
    if (next === 0 && this.both.value) this.#nextStep(run);
    else {
      run.videoFrame.value = null;
      run.frame.value = next;
    }
  }

  #nextStep(run: Run): void {
    const { session } = this.context;
    const step = session.viewState.step.peek();
    session.goTo(step >= run.latest.peek() ? 0 : step + 1);
    run.videoFrame.value = null;
    run.frame.value = 0;
  }
}
