// Plays the steps received so far, forward or back and forth.

import { type ReadonlySignal, signal } from "@preact/signals";
import type { Session } from "./session";

const SPEEDS = [0.5, 1, 2, 4];

/** Steps per second at speed 1. */
const RATE = 8;

export class Player {
  readonly #playing = signal(false);
  readonly playing: ReadonlySignal<boolean> = this.#playing;
  readonly speed = signal<number>(1);
  readonly pingPong = signal(false);
  #direction = 1;
  #frame = 0;
  #due = 0;

  constructor(
    private readonly session: Session,
    stopped: AbortSignal,
  ) {
    stopped.addEventListener("abort", () => this.pause());
  }

  toggle(): void {
    if (this.#playing.value) this.pause();
    else this.play();
  }

  play(): void {
    const run = this.session.store.shown.value;
    if (!run || run.latest.value < 1 || this.#playing.value) return;
    this.#playing.value = true;
    this.#direction = 1;
    if (this.session.viewState.step.value >= run.latest.value) this.session.goTo(0);
    this.#due = performance.now() + 1000 / (RATE * this.speed.value);
    this.#frame = requestAnimationFrame((now) => this.#tick(now));
  }

  pause(): void {
    this.#playing.value = false;
    cancelAnimationFrame(this.#frame);
  }

  nextSpeed(): void {
    const at = SPEEDS.indexOf(this.speed.value);
    this.speed.value = SPEEDS[(at + 1) % SPEEDS.length] ?? 1;
  }

  #tick(now: number): void {
    if (!this.#playing.value) return;
    if (now >= this.#due) {
      // A tab that was suspended does not catch up.
      this.#due = Math.max(this.#due, now - 50) + 1000 / (RATE * this.speed.value);
      this.#advance();
    }
    if (this.#playing.value) this.#frame = requestAnimationFrame((next) => this.#tick(next));
  }

  #advance(): void {
    const { viewState, store } = this.session;
    const last = store.shown.value?.latest.value ?? 0;
    const at = viewState.step.value;
    if (this.pingPong.value) {
      if (at >= last) this.#direction = -1;
      else if (at <= 0) this.#direction = 1;
      this.session.goTo(at + this.#direction);
    } else if (at >= last) {
      if (this.session.busy.value) this.session.follow();
      this.pause();
    } else {
      this.session.goTo(at + 1);
    }
  }
}
