// Why the map of the chosen word looks as it does, in a few sentences.

import { type Context, distinctName, score, stepNumber, value } from "../../app/coreExports";
import { describeMap, SAME } from "./describeMap";

const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export function MapNotes({ context }: { readonly context: Context }) {
  const { session } = context;
  const { viewState, store } = session;
  const run = store.shown.value;
  const word = viewState.words.value.at(-1);
  const recorded = run?.nearest(viewState.step.value);
  const shown = session.step;
  if (!run || !recorded || !shown) return null;
  const name = word === undefined ? "" : distinctName(run.info.words, word);
  const chosen = word === undefined ? undefined : run.info.words[word];
  const isConcept = chosen?.kind === "concept";
  const isShare = chosen !== undefined && run.info.shares.includes(chosen.text);
  const described = word === undefined ? null : describeMap(run, shown, recorded, word);
  return (
    <section class="dv-about-map" aria-label="About the map" data-testid="about-map">
      <div class="dv-title">
        <h3>{name === "" ? "Map" : `The map of ${name}`}</h3>
      </div>
      {described ? (
        sentences(context, described, name, isShare).map((sentence) => <p key={sentence}>{sentence}</p>)
      ) : (
        <p class="dv-foot">
          {name === "" ? "Choose a word to see what its map averages and what it resembles." : "It has no map here."}
        </p>
      )}
      {isConcept ? (
        <p>
          The word is not in the prompt. Such maps find things. To tell a red star from a blue one, add both colours:
          they compete.
        </p>
      ) : null}
      <p class="dv-foot">What maps can and cannot show: “Heat maps” in the documentation, page “What to trust”.</p>
    </section>
  );
}

function sentences(
  context: Context,
  described: NonNullable<ReturnType<typeof describeMap>>,
  name: string,
  isShare: boolean,
): string[] {
  const { session } = context;
  const { layers } = session.store.shown.value?.info ?? { layers: [] };
  const averaged = layers.filter((layer) => layer.default).length || layers.length;
  const shown = session.step;
  const refined = shown?.refined != null && shown.maps === shown.refined;
  const grid = shown ? `${shown.maps.height} x ${shown.maps.width}` : "";
  // Pages without a kernel do not list the layers.
  const some = averaged === 1 ? "one layer" : `${averaged} of ${layers.length} layers`;
  const over = layers.length > 0 ? some : "the default layers";
  const { entropy, contrast, wordShare, specialShare, others } = described;
  const [nearest] = others;
  const same = others.filter(({ correlation }) => correlation >= SAME).map((other) => `“${other.name}”`);
  return [
    `Step ${stepNumber(shown?.index ?? 0)}: attention probabilities, mean over ${over} and all heads, on ${grid}${
      refined && isShare ? "; their share among the words that the word excludes" : ""
    }${refined ? "; refined by self-attention" : ""}.`,
    ...(entropy === null || contrast === null
      ? []
      : [`Entropy ${percent(entropy)} of that of a flat map; the largest value is ${value(contrast)} times the mean.`]),
    ...(wordShare === null || specialShare === null
      ? []
      : [
          `Of the attention to the text, ${percent(wordShare)} goes to “${name}” and ${percent(specialShare)} to special tokens.`,
        ]),
    ...(nearest === undefined
      ? []
      : same.length > 0
        ? [`Nearly the same as the map of ${same.join(", ")} (correlation ${score(nearest.correlation)}).`]
        : [`The most similar map is that of “${nearest.name}” (correlation ${score(nearest.correlation)}).`]),
  ];
}
