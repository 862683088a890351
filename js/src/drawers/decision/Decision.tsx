// When was a word decided? It is exchanged at one step after the other, and the finished pictures are asked what they
// show. The curve lies under the film, step below step, and moves the same slider.

import { Choice, type Context, score, useLayoutEffect, useMemo, useReaction, useSignal } from "../../app/coreExports";
import { Progress } from "../Progress";
import { Decisions, type Decision as Found, nameOf, sentence, shareAt } from "./decisionCurve";

const SEEDS = 4;
const MOST = 32;
const NAME = "decided";

function Title() {
  return (
    <div class="dv-title">
      <h3>When a word was decided</h3>
    </div>
  );
}

export function Decision({ context }: { readonly context: Context }) {
  const { session } = context;
  const { look, store, traits } = session;
  const decisions = useMemo(() => new Decisions(session), [session]);
  const picked = useSignal("");
  const to = useSignal("");
  const seeds = useSignal(String(SEEDS));
  const complaint = useSignal("");
  const run = store.shown.value;
  useReaction(() => decisions.want(), [decisions]);
  useReaction(() => {
    const found = decisions.shown;
    const length = store.shown.value?.length ?? 1;
    const others = look.marks.peek().filter(({ name }) => !name.endsWith(NAME));
    const at = found?.decision;
    const step = at == null || !found ? null : Math.min(length - 1, Math.floor((at / found.steps) * length));
    const own = step === null || !found ? [] : [{ name: `${found.word} ${NAME}`, step, what: `${found.word} ${NAME}` }];
    if (own.length > 0 || others.length < look.marks.peek().length) look.marks.value = [...own, ...others];
  }, [decisions]);
  useLayoutEffect(
    () => () => {
      decisions.working.drop();
      look.marks.value = look.marks.peek().filter(({ name }) => !name.endsWith(NAME));
    },
    [decisions],
  );
  if (!run) return null;

  const words = [...new Set(run.info.words.flatMap(({ text, kind }) => (kind === "word" ? [text.toLowerCase()] : [])))];
  const pinned = look.pinned.value.map((index) => run.info.words[index]?.text.toLowerCase() ?? "");
  const concepts = traits.concepts.value.map((one) => one.toLowerCase());
  const word = [picked.value, ...pinned, ...concepts, ...words].find((one) => words.includes(one)) ?? "";
  const going = decisions.working.going;
  const ended = run.end.value !== null && !session.busy.value;
  const shown = decisions.shown;

  const begin = () => {
    const count = /^\s*\d+\s*$/.test(seeds.value) ? Number(seeds.value) : 0;
    if (to.value.trim() === "") complaint.value = `Type what takes the place of “${word}”.`;
    else if (count < 1 || count > MOST)
      complaint.value = `seeds is “${seeds.value.trim()}”: it must be a whole number from 1 to ${MOST}.`;
    else {
      complaint.value = "";
      decisions.begin(word, to.value, count);
    }
  };
  if (!traits._can_run.value)
    return (
      <section class="dv-decision" aria-label="Decision">
        <Title />
        <p class="dv-foot">A recorded run has no pipeline to ask: a widget made with dv.DiffVis(pipe) has.</p>
      </section>
    );
  return (
    <section class="dv-decision" aria-label="Decision">
      <Title />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!going && ended) begin();
        }}
      >
        <label>
          <span>When was</span>
          <select
            aria-label="The word"
            value={word}
            disabled={going}
            onChange={(event) => {
              picked.value = event.currentTarget.value;
            }}
          >
            {words.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <label>
          <span>decided, and not</span>
          <input
            type="text"
            class="dv-to"
            autocomplete="off"
            aria-label="What takes its place"
            placeholder="another word"
            maxLength={200}
            disabled={going}
            value={to.value}
            onInput={(event) => {
              to.value = event.currentTarget.value;
              complaint.value = "";
            }}
          />
        </label>
        <label title="Each seed is a picture of its own; the band is over them">
          <span>seeds</span>
          <input
            type="text"
            inputMode="numeric"
            class="dv-seeds"
            autocomplete="off"
            disabled={going}
            value={seeds.value}
            onInput={(event) => {
              seeds.value = event.currentTarget.value;
              complaint.value = "";
            }}
          />
        </label>
        <button type="submit" class="dv-do" data-testid="find-out" disabled={going || !ended}>
          Find out when
        </button>
      </form>
      {complaint.value || decisions.problem.value ? (
        <p class="dv-problem" role="alert">
          {complaint.value || decisions.problem.value}
        </p>
      ) : (
        <Progress working={decisions.working} what="The decision" />
      )}
      {decisions.found.value.length > 1 && shown ? (
        <Choice
          label="Words that were exchanged"
          options={decisions.found.value.map((one) => ({
            value: nameOf(one),
            label: nameOf(one),
            title: `${one.word} exchanged for ${one.to}`,
          }))}
          chosen={nameOf(shown)}
          choose={(name) => {
            decisions.chosen.value = name;
          }}
        />
      ) : null}
      {shown ? (
        <Curve context={context} found={shown} length={run.length} />
      ) : going || complaint.value ? null : (
        <p class="dv-foot">
          {ended
            ? "Exchanges the word at step after step, finishes each picture, and asks the meter what it shows."
            : "Can be found out when the run is done."}
        </p>
      )}
    </section>
  );
}

const WIDTH = 1000;
const HEIGHT = 100;

interface CurveProps {
  readonly context: Context;
  readonly found: Found;
  readonly length: number;
}

function Curve({ context, found, length }: CurveProps) {
  const { session, player } = context;
  const { look } = session;
  const { word, to, steps, decision, interval, seeds } = found;
  const x = (step: number) => Math.round((step / steps) * WIDTH * 10) / 10;
  const y = (share: number) => Math.round((1 - share) * HEIGHT * 10) / 10;
  const line = (row: readonly (number | null)[]) =>
    row.flatMap((one, i) => (one === null ? [] : `${x(found.switch[i] ?? 0)} ${y(one)}`)).join("L");
  const upper = line(found.band.map((one) => one[1]));
  const lower = line(found.band.map((one) => one[0]))
    .split("L")
    .reverse()
    .join("L");
  const band = upper && `M${upper}L${lower}Z`;
  const at = (look.step.value / length) * steps;
  const now = shareAt(found, at);
  const told = now === null ? "" : `exchanged at step ${look.step.value + 1}: share of ${word} ${score(now)}`;
  const seek = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    session.goTo(Math.floor(((event.clientX - box.left) / box.width) * length));
  };
  return (
    <figure>
      <p role="status">{sentence(found)}</p>
      <div
        class="dv-plot"
        role="slider"
        tabIndex={0}
        data-testid="decision-curve"
        aria-label={`Step at which ${word} is exchanged for ${to}`}
        aria-valuemin={1}
        aria-valuemax={length}
        aria-valuenow={look.step.value + 1}
        aria-valuetext={told || `step ${look.step.value + 1}`}
        onPointerDown={(event) => {
          if (event.button !== 0) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          player.pause();
          seek(event);
        }}
        onPointerMove={(event) => {
          if (event.currentTarget.hasPointerCapture(event.pointerId)) seek(event);
        }}
      >
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {interval[0] !== null && interval[1] !== null ? (
            <rect x={x(interval[0])} y={0} width={x(interval[1]) - x(interval[0])} height={HEIGHT} />
          ) : null}
          {band ? <path class="dv-spread" d={band} /> : null}
          {seeds > 1 ? found.shares.map((row, i) => <path class="dv-one" key={i} d={`M${line(row)}`} />) : null}
          <path d={`M${line(found.mean)}`} />
          {decision === null ? null : <line x1={x(decision)} x2={x(decision)} y1={0} y2={HEIGHT} />}
        </svg>
        <span>{word}</span>
        <span>{to}</span>
        {now === null ? null : (
          <i class="dv-dot" style={{ left: `${(at / steps) * 100}%`, top: `${(1 - now) * 100}%` }} />
        )}
      </div>
      <figcaption>
        Share of {word} against {to} in the finished picture, by the step of the exchange
        {seeds > 1 ? `: ${seeds} seeds, mean and 95 % band` : ""}
        <span class="dv-num">{told}</span>
      </figcaption>
    </figure>
  );
}
