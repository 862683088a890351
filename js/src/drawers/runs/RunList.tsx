// The runs of this widget: settings of the next one, and the last ones, to show again or to compare.

import { Button, Choice, type Context, NumberField, useMemo, useReaction } from "../../app/coreExports";
import { ImageOf } from "../ImageOf";
import { type Entry, RunHistory, settingsOf } from "../runHistory";
import { GuidanceSlider } from "./GuidanceSlider";
import { SeedSheet } from "./SeedSheet";

/** As many images as one can look at together. */
const SEEDS = 9;

const SCHEDULES = [
  { value: "uniform", label: "Uniform", title: "The scheduler's own spacing of the steps" },
  { value: "early", label: "Early", title: "More steps at the beginning, where the noise is high" },
  { value: "late", label: "Late", title: "More steps at the end, where the noise is low" },
] as const;

export function RunList({ context }: { readonly context: Context }) {
  const { session } = context;
  const { traits } = session;
  const runs = useMemo(() => new RunHistory(session), [session]);
  useReaction(() => runs.request(), [runs]);
  const entries = runs.entries.value.toReversed();
  const fixed = !traits._can_run.value || !session.connected.value;
  return (
    <section class="dv-runs" aria-label="Runs">
      {traits._can_run.value ? (
        <div class="dv-next">
          <h3>Next run</h3>
          <Choice
            label="Spacing of the steps"
            options={SCHEDULES.map((entry) => ({ ...entry, disabled: fixed }))}
            chosen={traits.schedule.value}
            choose={(schedule) => session.set({ schedule })}
          />
          {traits.schedule.value === "uniform" ? null : (
            <NumberField
              value={traits.schedule_strength.value}
              change={(value) => session.set({ schedule_strength: value })}
              problem={context.problem}
              before="strength"
              min={0}
              max={100_000}
              fixed={fixed}
              start={() => session.run({})}
            />
          )}
          <label class="dv-negative">
            <span>without</span>
            <input
              type="text"
              autocomplete="off"
              placeholder="a negative prompt"
              disabled={fixed}
              value={traits.negative_prompt.value ?? ""}
              onChange={(event) => session.set({ negative_prompt: event.currentTarget.value })}
              onKeyDown={(event) => {
                if (event.key !== "Enter") return;
                session.set({ negative_prompt: event.currentTarget.value });
                session.run({});
              }}
            />
          </label>
          {traits.guidance_scale.value === null ? null : <GuidanceSlider context={context} fixed={fixed} />}
          <Button
            class="dv-quiet dv-do"
            data-testid="seeds"
            title={`Paint this prompt with ${SEEDS} seeds, from the current one on, and see the images side by side`}
            disabled={fixed}
            onClick={() => session.run({ seeds: SEEDS })}
          >
            {`${SEEDS} seeds`}
          </Button>
        </div>
      ) : null}
      <SeedSheet context={context} entries={runs.entries.value} />
      <ul>
        {entries.map((entry) => (
          <Row key={entry.run} context={context} entry={entry} />
        ))}
      </ul>
      <p class="dv-foot">
        {runs.problem.value ||
          (session.connected.value
            ? `The last ${runs.limit.value} runs are kept, fewer if they are very large.`
            : "Earlier runs are kept in the kernel, which is no longer running.")}
      </p>
    </section>
  );
}

function Row({ context, entry }: { readonly context: Context; readonly entry: Entry }) {
  const { session, drawers } = context;
  const { viewState, store } = session;
  const shown = store.shown.value?.info.run === entry.run;
  const fixed = shown || session.busy.value || !session.connected.value;
  return (
    <li class="dv-past" data-shown={shown || undefined}>
      <ImageOf bytes={entry.image} alt="" />
      <p title={entry.prompt}>
        <bdi>{entry.prompt || "(no prompt)"}</bdi>
        <span>{settingsOf(entry)}</span>
      </p>
      <Button class="dv-quiet" disabled={fixed} onClick={() => session.show(entry.run)}>
        {shown ? "Shown" : "Show"}
      </Button>
      <Button
        class="dv-quiet"
        disabled={shown || !session.connected.value}
        onClick={() => {
          viewState.compareWith.value = entry.run;
          drawers.show("compare", session);
        }}
      >
        Compare
      </Button>
    </li>
  );
}
