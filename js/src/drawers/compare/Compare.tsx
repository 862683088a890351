// Two runs on one slider: side by side, one wiped over the other, or their difference; and where they part.

import {
  Button,
  Choice,
  type Context,
  fullNameOf,
  linePath,
  Overlay,
  place,
  type Run,
  SPARK,
  StagePicture,
  useCanvas,
  useLayoutEffect,
  useMemo,
  useReaction,
  useSignal,
  value,
} from "../../app/coreExports";
import { Runs, settingsOf } from "../runHistory";
import { Comparison, type WordPair } from "./comparison";

const MODES = [
  { value: "side", label: "Side by side", title: "A on the left, B on the right" },
  { value: "swipe", label: "Swipe", title: "A lies over B up to the line" },
  { value: "difference", label: "Difference", title: "How far each pixel is apart, mean over red, green and blue" },
] as const;
const PARTED = "A and B part";
type Mode = (typeof MODES)[number]["value"];

export function Compare({ context }: { readonly context: Context }) {
  const { session } = context;
  const { look, store } = session;
  const both = useMemo(() => new Comparison(session), [session]);
  const runs = useMemo(() => new Runs(session), [session]);
  const mode = useSignal<Mode>("side");
  useReaction(() => runs.want(), [runs]);
  useReaction(() => both.wantRun(), [both]);
  useReaction(() => both.wantNumbers(), [both]);
  useReaction(() => {
    const row = both.numbers.value?.divergence_step;
    const step = row == null ? undefined : both.numbers.value?.steps[row]?.[1];
    const own = step === undefined ? [] : [{ name: PARTED, step, what: PARTED }];
    look.marks.value = [...own, ...look.marks.peek().filter(({ name }) => name !== PARTED)];
  }, [both]);
  useLayoutEffect(
    () => () => {
      look.marks.value = look.marks.peek().filter(({ name }) => name !== PARTED);
    },
    [look],
  );
  const b = store.shown.value;
  const a = both.a.value;
  const others = runs.entries.value.filter(({ run }) => run !== b?.info.run);
  if (!b) return null;
  return (
    <section class="dv-compare" aria-label="Compare">
      <div class="dv-title">
        <label>
          <h3>A</h3>
          <select
            aria-label="The run to compare with"
            value={both.wanted}
            disabled={others.length === 0}
            onChange={(event) => {
              look.against.value = event.currentTarget.value;
            }}
          >
            {others.length === 0 ? <option>{a?.info.prompt ?? "no other run"}</option> : null}
            {others.toReversed().map((entry) => (
              <option key={entry.run} value={entry.run}>{`${entry.prompt} · ${settingsOf(entry)}`}</option>
            ))}
          </select>
        </label>
        <Choice
          label="How the two are laid out"
          options={MODES}
          chosen={mode.value}
          choose={(next) => {
            mode.value = next;
          }}
        />
      </div>
      {a ? (
        <>
          <div class="dv-pair" data-mode={mode.value}>
            <Picture key={mode.value} context={context} both={both} a={a} b={b} mode={mode.value} />
            <Course context={context} both={both} b={b} />
          </div>
          <Words context={context} both={both} a={a} b={b} />
        </>
      ) : (
        <p class="dv-foot">
          {both.problem.value || "Run again with another prompt, seed or schedule: the run before is A, the new one B."}
        </p>
      )}
    </section>
  );
}

interface Props {
  readonly context: Context;
  readonly both: Comparison;
  readonly b: Run;
}

function Picture({ context, both, a, b, mode }: Props & { readonly a: Run; readonly mode: Mode }) {
  const { look } = context.session;
  const [left, right] = useMemo(
    () => [new StagePicture(context.images), new StagePicture(context.images)] as const,
    [context],
  );
  const overlay = useMemo(() => new Overlay(), []);
  const line = useSignal(0.5);
  const now = () => {
    const [, at] = both.partner(look.step.value);
    return [a.nearest(at), b.nearest(look.step.value)] as const;
  };

  const draw = (c: CanvasRenderingContext2D, size: Parameters<typeof place>[1], side: "a" | "b") => {
    const [run, step] = side === "a" ? [a, now()[0]] : [b, now()[1]];
    if (!step) return;
    const box = place(run.info.image, size);
    const pairs = both.pairs(a, b);
    const words = look.words.value.flatMap((word) => {
      const index = side === "b" ? word : pairs.find((one) => one.b === word)?.a;
      return index == null ? [] : [index];
    });
    const view = look.stage.value === "change" ? "prediction" : look.stage.value;
    (side === "a" ? left : right).draw(c, step, view, box, size, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, look, box);
  };

  const first = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    const [one, two] = now();
    if (mode === "difference" && one && two) {
      const box = place(b.info.image, size);
      left.drawChange(c, two, one, box, size, false);
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
  const [one, two] = now();
  const change = mode === "difference" && one ? left.change(two ?? one, one) : undefined;
  const drag = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    line.value = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const title = (side: string, run: Run) => `${side}: ${run.info.prompt}, step ${look.step.value + 1}`;
  return (
    <>
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
              <b>A</b> {a.info.prompt}
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
            `Bright is far apart: up to ${value(change.most)} of 255`
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
          <b>B</b> {b.info.prompt}
        </figcaption>
      </figure>
    </>
  );
}

/** How far the two are apart, step by step. */
function Course({ context, both, b }: Props) {
  const { look } = context.session;
  const numbers = both.numbers.value;
  const said = both.problem.value || (b.end.value ? "" : "Where they part is told when the run is done.");
  if (!numbers) return <p class="dv-foot">{said}</p>;
  const course: (number | null)[] = [];
  numbers.steps.forEach(([, step], row) => {
    course[step] = numbers.distance[row] ?? null;
  });
  const dense = Array.from(course, (one) => one ?? null);
  const most = Math.max(numbers.threshold * 1.5, ...dense.map((one) => one ?? 0));
  const spot = (one: number) => one / most;
  const axis = { range: [0, most] as const, place: spot };
  const parted = numbers.divergence_step === null ? undefined : numbers.steps[numbers.divergence_step]?.[1];
  const [row] = both.partner(look.step.value);
  const now = numbers.distance[row] ?? null;
  const level = SPARK.y(spot(numbers.threshold));
  return (
    <div class="dv-course">
      <p>
        <strong>{parted === undefined ? "They do not part" : `They part at step ${parted + 1}`}</strong>
        <span class="dv-num">{now === null ? "–" : value(now)}</span>
      </p>
      <div class="dv-spark">
        <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
          <line x1={0} x2={SPARK.width} y1={level} y2={level} />
          <path d={linePath(dense, b.length, axis)} />
        </svg>
        {now === null ? null : (
          <i
            style={{
              transform: `translate(${((look.step.value + 0.5) / b.length) * 100}%,${(SPARK.y(spot(now)) / SPARK.height) * 100}%)`,
            }}
          >
            <b class="dv-dot" />
          </i>
        )}
      </div>
      <p class="dv-foot" title="Root mean square difference of the predicted latents over the spread of the final ones">
        Distance of the predictions; dashed: above {value(numbers.threshold)} they count as parted.
        {numbers.align === "noise" ? " Steps are paired by their noise." : ""}
      </p>
    </div>
  );
}

/** The words of both prompts, aligned; the number says how far their maps are apart at this step. */
function Words({ context, both, a, b }: Props & { readonly a: Run }) {
  const { look } = context.session;
  const numbers = both.numbers.value;
  const [row] = both.partner(look.step.value);
  const pairs = both.pairs(a, b);
  const nameIn = (run: Run, index: number | null) => (index === null ? "" : fullNameOf(run.info.words[index]));
  const apart = (pair: WordPair) => {
    const at = numbers ? numbers.words.indexOf(pair) : -1;
    return at < 0 ? null : (numbers?.maps[row]?.[at] ?? null);
  };
  return (
    <div class="dv-chips">
      {pairs.map((pair, i) => {
        const far = apart(pair);
        const { b: index } = pair;
        const told =
          pair.change === "replaced" ? (
            <>
              <s>{nameIn(a, pair.a)}</s> {nameIn(b, index)}
            </>
          ) : pair.change === "removed" ? (
            <s>{nameIn(a, pair.a)}</s>
          ) : (
            nameIn(b, index)
          );
        return (
          <Button
            class="dv-chip"
            key={i}
            data-changed={pair.change !== "same" || undefined}
            disabled={index === null || !b.mapped}
            aria-pressed={index !== null && look.pinned.value.includes(index)}
            title={
              far === null
                ? pair.change
                : `${pair.change}; its maps are ${value(far)} apart (0 the same, 1 nowhere the same)`
            }
            onClick={(event) => {
              if (index !== null) look.pin(index, event.shiftKey);
            }}
          >
            {told}
            {pair.change === "same" ? null : <span class="dv-sr"> ({pair.change})</span>}
            {far === null ? null : <span class="dv-num">{far.toFixed(2)}</span>}
          </Button>
        );
      })}
    </div>
  );
}
