// The frames of a video: a slider with play under those of the steps, and for each word when in the film it is attended to.

import {
  Button,
  type Context,
  colourAt,
  colourOf,
  distinctName,
  type ImageCache,
  lookup,
  type Run,
  type StepMessage,
  signal,
  stepNumber,
  useCanvas,
  useComputed,
  useLayoutEffect,
  useMemo,
  useReaction,
  useRef,
  value,
} from "../../app/coreExports";
import { attentionByFrame } from "./attentionByFrame";
import { FramePlayer, videoFrames } from "./framePlayer";

export function Frames({ context }: { readonly context: Context }) {
  const { store, viewState } = context.session;
  const player = useMemo(() => new FramePlayer(context), [context]);
  const section = useRef<HTMLElement>(null);
  useLayoutEffect(() => () => player.pause(), [player]);
  useFrameKeys(section, player);
  const run = player.run;

  const readout = useComputed(() => {
    const shown = store.shown.value;
    if (!shown) return "";
    const [first, last] = videoFrames(shown.frame.value, shown);
    const total = videoFrames(shown.info.frames - 1, shown)[1] + 1;
    const at = shown.videoFrame.value;
    const of = first === last ? `frame ${first + 1}` : `frames ${first + 1}–${last + 1}`;
    return `latent frame ${shown.frame.value + 1} / ${shown.info.frames} · ${at === null ? of : `frame ${at + 1}`} of ${total}`;
  });

  if (!run) return null;
  const words = run.info.words.flatMap((word, index) =>
    word.kind === "word" || (viewState.showSpecial.value && word.kind !== "truncated") ? [index] : [],
  );
  return (
    <section class="dv-frames" aria-label="Frames" data-testid="frames-view" ref={section}>
      <div class="dv-transport">
        <Button
          class="dv-play"
          aria-label={player.playing.value ? "Pause the frames" : "Play the frames"}
          title="Play the frames; at the last step, the video"
          onClick={() => player.toggle()}
        >
          <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true" fill="currentColor">
            <path
              d={
                player.playing.value
                  ? "M4 3h3v10H4zM9 3h3v10H9z"
                  : "M5 3.2v9.6a.6.6 0 0 0 .9.5l7.6-4.8a.6.6 0 0 0 0-1L5.9 2.7a.6.6 0 0 0-.9.5z"
              }
            />
          </svg>
        </Button>
        <Button
          class="dv-quiet"
          aria-pressed={player.both.value}
          title="Play the frames of one step after the other"
          onClick={() => {
            player.both.value = !player.both.value;
          }}
        >
          Steps too
        </Button>
        <span class="dv-step dv-num" data-testid="frame-readout">
          {readout}
        </span>
      </div>
      <FrameSlider context={context} player={player} run={run} />
      {run.hasMaps ? (
        <>
          <h3 title="Mean attention of each frame to the word at this step, on a scale from 0 to the highest of the word">
            When each word is attended to
          </h3>
          <div class="dv-when">
            {words.map((index) => (
              <WordRow key={`${run.info.run}-${index}`} context={context} player={player} run={run} index={index} />
            ))}
          </div>
        </>
      ) : null}
    </section>
  );
}

/** Comma and full stop move by a frame anywhere in the widget, as in players of videos. */
function useFrameKeys(section: { readonly current: HTMLElement | null }, player: FramePlayer): void {
  useLayoutEffect(() => {
    const root = section.current?.closest<HTMLElement>(".dv");
    const move = (event: KeyboardEvent) => {
      const target = event.composedPath()[0];
      const by = event.key === "," ? -1 : event.key === "." ? 1 : 0;
      if (!by || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !player.run) return;
      if (target instanceof Element && target.closest("input, textarea, select")) return;
      player.pause();
      player.goTo(player.run.frame.value + by);
      event.preventDefault();
    };
    root?.addEventListener("keydown", move);
    return () => root?.removeEventListener("keydown", move);
  }, [player]);
}

interface Props {
  readonly context: Context;
  readonly player: FramePlayer;
  readonly run: Run;
}

const MOVES: Readonly<Record<string, (frame: number) => number>> = {
  ArrowLeft: (frame) => frame - 1,
  ArrowRight: (frame) => frame + 1,
  ArrowDown: (frame) => frame - 1,
  ArrowUp: (frame) => frame + 1,
  PageDown: (frame) => frame - 5,
  PageUp: (frame) => frame + 5,
  Home: () => 0,
  End: () => 1e9,
};

/** Moves along the frames with the pointer: what to put on an element whose width is that of all frames. */
function seeking(player: FramePlayer, run: Run) {
  const seek = (event: PointerEvent & { readonly currentTarget: EventTarget }) => {
    const bounds = (event.currentTarget as Element).getBoundingClientRect();
    player.goTo(Math.floor(((event.clientX - bounds.left) / bounds.width) * run.info.frames));
  };
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      player.pause();
      seek(event as PointerEvent & { readonly currentTarget: EventTarget });
    },
    onPointerMove: (event: PointerEvent) => {
      if ((event.currentTarget as Element).hasPointerCapture(event.pointerId))
        seek(event as PointerEvent & { readonly currentTarget: EventTarget });
    },
  };
}

function FrameSlider({ context, player, run }: Props) {
  const { viewState } = context.session;
  const slider = useRef<HTMLDivElement>(null);
  const thumbs = useMemo(() => new Thumbs(context.images), [context]);
  const strip = useCanvas((canvas, c) => {
    const step = run.nearest(viewState.step.value);
    thumbs.draw(c, canvas, step && (run.steps[step.index] ?? step), viewState.stage.value);
  });
  useReaction(() => {
    const element = slider.current;
    if (!element) return;
    const frame = run.frame.value;
    const [first, last] = videoFrames(frame, run);
    element.style.setProperty("--frame", String(frame / run.info.frames));
    element.setAttribute("aria-valuenow", String(frame + 1));
    const of = first === last ? `frame ${first + 1}` : `frames ${first + 1} to ${last + 1}`;
    element.setAttribute("aria-valuetext", `Latent frame ${frame + 1} of ${run.info.frames}, ${of} of the video`);
  }, [run]);
  return (
    <div
      ref={slider}
      class="dv-slider"
      role="slider"
      tabIndex={0}
      data-arrows
      data-testid="frame-slider"
      aria-label="Frame"
      aria-valuemin={1}
      aria-valuemax={run.info.frames}
      aria-valuenow={1}
      title="Frames of this step (keys: comma and full stop)"
      style={{ "--width": String(1 / run.info.frames) }}
      {...seeking(player, run)}
      onKeyDown={(event) => {
        const move = MOVES[event.key];
        if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
        player.pause();
        player.goTo(move(run.frame.value));
        event.preventDefault();
      }}
    >
      <div class="dv-film" aria-hidden="true">
        <canvas ref={strip} />
      </div>
      <div class="dv-frame-mark" aria-hidden="true" />
    </div>
  );
}

function WordRow({ context, player, run, index }: Props & { readonly index: number }) {
  const { viewState } = context.session;
  const stepOf = (): StepMessage | undefined => {
    const step = run.nearest(viewState.step.value);
    return step && (run.steps[step.index] ?? step);
  };
  const strip = useCanvas((canvas, c) => {
    const step = stepOf();
    const means = step && attentionByFrame(step, index);
    c.clearRect(0, 0, canvas.width, canvas.height);
    if (!means) return;
    const high = Math.max(...means);
    const colours = lookup("viridis");
    means.forEach((mean, frame) => {
      const level = high > 0 ? (mean / high) * 255 : 0;
      const colour = colourAt(colours, level);
      c.fillStyle = `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;
      const left = Math.round((frame * canvas.width) / means.length);
      c.fillRect(left, 0, Math.round(((frame + 1) * canvas.width) / means.length) - left, canvas.height);
    });
    // The frame that is shown, visible on every colour.
    const width = canvas.width / means.length;
    for (const [line, colour] of [
      [4, "#000a"],
      [2, "#fff"],
    ] as const) {
      c.lineWidth = line;
      c.strokeStyle = colour;
      c.strokeRect(run.frame.value * width + 2, 2, width - 4, canvas.height - 4);
    }
  });
  const here = useComputed(() => {
    const step = stepOf();
    const mean = step && attentionByFrame(step, index)?.[run.frame.value];
    return mean === undefined || mean === null ? "–" : value(mean);
  });
  const description = useComputed(() => {
    const step = stepOf();
    const means = step && attentionByFrame(step, index);
    const name = distinctName(run.info.words, index);
    if (!step || !means) return `${name}: no map`;
    return `${name} at step ${stepNumber(step.index)}, by frame: ${means.map((mean) => value(mean)).join(", ")}`;
  });
  const colour = colourOf(run.info.words, viewState.pinned.value, index);
  return (
    <>
      <Button
        class="dv-when-word"
        aria-pressed={viewState.pinned.value.includes(index)}
        style={colour ? { "--mark": colour } : undefined}
        title={distinctName(run.info.words, index)}
        onClick={(event) => viewState.pin(index, event.shiftKey)}
        onPointerEnter={() => {
          viewState.hovered.value = index;
        }}
        onPointerLeave={() => {
          viewState.hovered.value = null;
        }}
      >
        <bdi class="dv-tile-name">{distinctName(run.info.words, index)}</bdi>
      </Button>
      <span class="dv-when-strip" {...seeking(player, run)}>
        <canvas ref={strip} role="img" aria-label={description} />
      </span>
      <span class="dv-num">{here}</span>
    </>
  );
}

/** The images of the frames of a step side by side; an image is drawn once its bitmap is decoded. */
class Thumbs {
  readonly #arrived = signal(0);

  constructor(private readonly images: ImageCache) {}

  draw(c: CanvasRenderingContext2D, canvas: HTMLCanvasElement, step: StepMessage | undefined, view: string): void {
    this.#arrived.value;
    c.clearRect(0, 0, canvas.width, canvas.height);
    const frames = step?.frames ?? [];
    const width = canvas.width / Math.max(1, frames.length);
    c.imageSmoothingQuality = "high";
    frames.forEach(({ images }, i) => {
      const bytes = (view === "latents" || view === "guidance" ? images[view] : undefined) ?? images.prediction;
      const bitmap = bytes && this.images.get(bytes);
      if (!bytes) return;
      if (!bitmap) {
        this.images.load(bytes).then((ready) => {
          if (ready) this.#arrived.value++;
        });
        return;
      }
      // As high as the strip, cropped to its cell around the middle.
      const scale = Math.max(canvas.height / bitmap.height, width / bitmap.width);
      const [w, h] = [width / scale, canvas.height / scale];
      c.drawImage(
        bitmap,
        (bitmap.width - w) / 2,
        (bitmap.height - h) / 2,
        w,
        h,
        i * width,
        0,
        width - 1,
        canvas.height,
      );
    });
  }
}
