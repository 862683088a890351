// The steps as a filmstrip: a slider with play, pause and speed, and marks where concepts emerge.

import { useComputed, useSignal } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { plain, value } from "../core/format";
import type { StepMessage } from "../core/protocol";
import { stepNumber } from "../core/stepNumbers";
import type { Run } from "../core/store";
import { usePointerReadout } from "../gestures/pointerReadout";
import { handleStepKey } from "../gestures/stepKeys";
import { Button, toggle } from "../ui/Button";
import { FullScreenIcon, PauseIcon, PingPongIcon, PlayIcon } from "../ui/icons";
import { TERMS, tip } from "../ui/tip";
import { useCanvas, useReaction } from "../ui/useCanvas";
import { Filmstrip } from "./filmstrip";
import { Marks } from "./Marks";

export function Timeline({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const { store, viewState } = session;
  const { Pins } = context.drawers.late;
  const run = store.shown.value;
  const playable = (run?.latest.value ?? -1) > 0;
  const live = session.busy.value && viewState.following.value;

  const readout = useComputed(() => {
    const shown = store.shown.value;
    const step = shown?.nearest(viewState.step.value);
    const total = shown?.length ?? session.traits.steps.value ?? "–";
    if (!step) return `step – / ${total}`;
    return [`step ${stepNumber(step.index)} / ${total}`, ...noiseOf(step, lacksNoise(shown))].join(" · ");
  });

  return (
    <section class="dv-time" aria-label="Steps">
      <div class="dv-transport">
        <Button
          class="dv-play"
          disabled={!playable}
          aria-label={player.playing.value ? "Pause" : "Play the steps"}
          title={player.playing.value ? "Pause (Space)" : "Play (Space)"}
          onClick={() => player.toggle()}
        >
          {player.playing.value ? <PauseIcon /> : <PlayIcon />}
        </Button>
        <Button
          class="dv-quiet dv-speed"
          disabled={!playable}
          aria-label={`Playback speed ${player.speed.value}×`}
          title="Playback speed"
          onClick={() => player.nextSpeed()}
        >
          {player.speed.value === 0.5 ? "½" : player.speed.value}×
        </Button>
        <Button
          class="dv-quiet dv-pingpong"
          disabled={!playable}
          aria-label="Play back and forth"
          title="Play back and forth"
          {...toggle(player.pingPong)}
        >
          <PingPongIcon />
        </Button>
        {/* One text: parts of it would move as the numbers before them change. */}
        <Button class="dv-step dv-term" {...tip(`${TERMS.timestep} ${TERMS.sigma}`)}>
          {readout}
        </Button>
        <Button
          class="dv-quiet dv-live"
          aria-pressed={live}
          hidden={!session.busy.value}
          title="Follow new steps as they arrive"
          onClick={() => session.follow()}
        >
          <i aria-hidden="true" />
          {live ? "Live" : "Follow live"}
        </Button>
        <span
          class="dv-soft dv-emerges"
          title="From here on, the score of a concept stays above the middle of its first and its last score"
          // It has its place from the beginning, so that nothing moves.
          style={{ visibility: run?.scores.value?.emergence.some((step) => step !== null) ? "visible" : "hidden" }}
        >
          ▲ emerges
        </span>
        <FullScreen />
      </div>
      {Pins ? <Pins context={context} /> : null}
      <Slider context={context} />
      {lacksNoise(run) && (
        <p class="dv-remark">
          The noise levels of this scheduler are not known, so the run has no σ and no predicted images.
        </p>
      )}
      <Marks context={context} />
    </section>
  );
}

/** Shows the widget alone on the screen; not offered where the page may not, as in some frames. */
function FullScreen() {
  const isFull = useSignal(false);
  return (
    <Button
      class="dv-quiet dv-full"
      aria-label="Full screen"
      aria-pressed={isFull.value}
      hidden={!document.fullscreenEnabled}
      title={isFull.value ? "Leave full screen (Esc)" : "Full screen"}
      onClick={(event) => {
        const root = event.currentTarget.closest<HTMLElement>(".dv");
        if (!root) return;
        root.onfullscreenchange = () => {
          isFull.value = root.matches(":fullscreen");
        };
        // A refused request, or one that the user ends first, leaves everything as it is.
        (isFull.value ? document.exitFullscreen() : root.requestFullscreen()).catch(() => undefined);
      }}
    >
      <FullScreenIcon />
    </Button>
  );
}

/** The timestep and the noise level of a step; a level that is known but no number is infinite. */
function noiseOf({ timestep, sigma }: StepMessage, unknown: boolean): string[] {
  const level = unknown ? "σ unknown" : `σ = ${value(sigma ?? Number.POSITIVE_INFINITY)}`;
  return [...(timestep === null ? [] : [`t = ${plain(timestep)}`]), level];
}

function lacksNoise(run: Run | null | undefined): boolean {
  return run?.info.noise_levels === "unknown";
}

function Slider({ context }: { readonly context: Context }) {
  const { session, player, images } = context;
  const { store, viewState } = session;
  const slider = useRef<HTMLDivElement>(null);
  const lens = useRef<HTMLDivElement>(null);
  const film = useMemo(() => new Filmstrip(images), [context]);

  const strip = useCanvas((_, c, size) => film.draw(c, size, store.shown.value));
  const lensCanvas = useCanvas((_, c) => {
    const run = store.shown.value;
    film.drawLens(c, run, run?.nearest(viewState.step.value));
  });

  useReaction(() => {
    const run = store.shown.value;
    const element = slider.current;
    if (!element || !lens.current) return;
    const length = run?.length ?? 1;
    const at = viewState.step.value;
    const step = run?.steps[at];
    lens.current.style.setProperty("--at", String(length > 1 ? (at + 0.5) / length : 0.5));
    lens.current.hidden = !run || run.latest.value < 0;
    element.setAttribute("aria-valuenow", String(stepNumber(at)));
    element.setAttribute("aria-valuemax", String(stepNumber(Math.max(0, run?.latest.value ?? 0))));
    const t = step?.timestep;
    element.setAttribute(
      "aria-valuetext",
      `Step ${stepNumber(at)} of ${length}${typeof t === "number" ? `, t = ${plain(t)}` : ""}`,
    );
  }, [context]);

  const readout = usePointerReadout(context, (at) => {
    const run = store.shown.value;
    const step = run?.steps[at];
    const name = `step ${stepNumber(at)}`;
    if (!step) return `${name} has not been computed yet`;
    return [name, ...noiseOf(step, lacksNoise(run))].join(" · ");
  });
  const seek = (event: PointerEvent) => {
    const bounds = slider.current?.getBoundingClientRect();
    const run = store.shown.value;
    if (!bounds || !run) return;
    session.goTo(Math.floor(((event.clientX - bounds.left) / bounds.width) * run.length));
  };

  return (
    <div
      ref={slider}
      class="dv-slider"
      role="slider"
      tabIndex={0}
      data-testid="slider"
      aria-label="Step"
      aria-valuemin={1}
      aria-valuemax={1}
      aria-valuenow={1}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        readout.onPointerDown(event);
        player.pause();
        seek(event);
      }}
      onPointerLeave={readout.onPointerLeave}
      onPointerMove={(event) => {
        readout.onPointerMove(event);
        if (event.currentTarget.hasPointerCapture(event.pointerId)) seek(event);
      }}
      onKeyDown={(event) => {
        if (event.key === "PageDown" || event.key === "PageUp") {
          session.goTo(viewState.step.value + (event.key === "PageUp" ? 5 : -5));
          event.preventDefault();
        } else handleStepKey(event, context);
      }}
    >
      <div class="dv-film" aria-hidden="true">
        <canvas ref={strip} />
      </div>
      <div class="dv-lens" ref={lens} aria-hidden="true" hidden>
        <div>
          <canvas ref={lensCanvas} />
        </div>
      </div>
    </div>
  );
}
