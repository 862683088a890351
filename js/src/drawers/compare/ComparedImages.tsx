// The images of two runs, on the stage: side by side, one wiped over the other, or their difference.

import {
  type Context,
  fitImage,
  Overlay,
  type Run,
  StageImage,
  stepNumber,
  useCanvas,
  useMemo,
  useSignal,
  value,
} from "../../app/coreExports";
import type { Comparison } from "./comparison";

export type Mode = "side" | "swipe" | "difference";

interface Props {
  readonly context: Context;
  readonly comparison: Comparison;
  readonly a: Run;
  readonly b: Run;
  readonly mode: Mode;
}

export function ComparedImages({ context, comparison, a, b, mode }: Props) {
  const { viewState } = context.session;
  const [left, right] = useMemo(
    () => [new StageImage(context.images), new StageImage(context.images)] as const,
    [context],
  );
  const overlay = useMemo(() => new Overlay(), []);
  const line = useSignal(0.5);
  const now = () => {
    const [, at] = comparison.partner(viewState.step.value);
    return [a.nearest(at), b.nearest(viewState.step.value)] as const;
  };

  const draw = (c: CanvasRenderingContext2D, size: Parameters<typeof fitImage>[1], side: "a" | "b") => {
    const [run, step] = side === "a" ? [a, now()[0]] : [b, now()[1]];
    if (!step) return;
    const box = fitImage(run.info.image, size);
    const pairs = comparison.pairs(a, b);
    const words = viewState.words.value.flatMap((word) => {
      const index = side === "b" ? word : pairs.find((pair) => pair.b === word)?.a;
      return index == null ? [] : [index];
    });
    const view = viewState.stage.value === "change" ? "prediction" : viewState.stage.value;
    (side === "a" ? left : right).draw(c, step, view, box, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, viewState, box);
  };

  const first = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    const [stepA, stepB] = now();
    if (mode === "difference" && stepA && stepB) {
      const box = fitImage(b.info.image, size);
      left.drawChange(c, stepB, stepA, box, false);
      return;
    }
    if (mode === "side") {
      draw(c, size, "a");
      return;
    }
    draw(c, size, "b");
    const x = line.value * size.width * size.ratio;
    c.save();
    c.beginPath();
    c.rect(0, 0, x, size.height * size.ratio);
    c.clip();
    draw(c, size, "a");
    c.restore();
    for (const [width, colour] of [
      [4, "#000a"],
      [2, "#fff"],
    ] as const) {
      c.fillStyle = colour;
      c.fillRect(x - (width * size.ratio) / 2, 0, width * size.ratio, size.height * size.ratio);
    }
  });
  const second = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    draw(c, size, "b");
  });
  const [stepA, stepB] = now();
  const change = mode === "difference" && stepA ? left.change(stepB ?? stepA, stepA) : undefined;
  const drag = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    line.value = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const title = (side: string, run: Run) => `${side}: ${run.info.prompt}, step ${stepNumber(viewState.step.value)}`;
  return (
    <div class="dv-pair" data-mode={mode}>
      <figure>
        <div
          class="dv-frame"
          onPointerDown={(event) => {
            if (mode !== "swipe") return;
            event.currentTarget.setPointerCapture(event.pointerId);
            drag(event);
          }}
          onPointerMove={(event) => {
            if (event.currentTarget.hasPointerCapture(event.pointerId)) drag(event);
          }}
        >
          <canvas
            ref={first}
            role="img"
            aria-label={
              mode === "side"
                ? title("A", a)
                : `${mode === "swipe" ? "A over B" : "Difference of A and B"}: ${title("B", b)}`
            }
          />
        </div>
        <figcaption>
          {mode === "side" ? (
            <>
              <b>A</b> <bdi>{a.info.prompt}</bdi>
            </>
          ) : mode === "swipe" ? (
            <input
              type="range"
              min={0}
              max={1}
              step={0.01}
              aria-label="The line between A and B"
              value={line.value}
              onInput={(event) => {
                line.value = Number(event.currentTarget.value);
              }}
            />
          ) : change ? (
            `Bright: large difference, up to ${value(change.max)} of 255`
          ) : (
            "\u00a0"
          )}
        </figcaption>
      </figure>
      <figure hidden={mode !== "side"}>
        <div class="dv-frame">
          <canvas ref={second} role="img" aria-label={title("B", b)} />
        </div>
        <figcaption>
          <b>B</b> <bdi>{b.info.prompt}</bdi>
        </figcaption>
      </figure>
    </div>
  );
}
