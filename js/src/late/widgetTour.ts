// The tour of the widget: a minute on its own stage, with the run that is shown.

import type { Card, Context, Run } from "../app/coreExports";

/** Words that say what is in the image; the tour chooses the first of them. */
const SHORT = /^\P{L}*$|^(?:an?|the|of|in|on|at|and|with|above|below|over|under)$/iu;

function cardsOf({ session, player }: Context, run: Run): readonly Card[] {
  const { viewState, traits } = session;
  const index = run.info.words.findIndex(({ kind, text }) => kind === "word" && !SHORT.test(text));
  const name = run.info.words[index]?.text ?? "";
  const middle = Math.floor(run.length / 3);
  const cards: (Card & { readonly isLeftOut?: boolean })[] = [
    {
      title: "What the model thinks",
      text: "This is the image that the model predicts at one step. It starts from noise and has hardly decided anything yet.",
      targets: [".dv-stage .dv-frame"],
      show: () => {
        viewState.clear();
        session.goTo(0);
      },
    },
    {
      title: "The steps",
      text: "Here is every step, from noise to the finished image. Drag along the film, press the arrow keys, or play it with Space.",
      targets: [".dv-slider"],
      show: () => player.play(),
    },
    {
      title: "Where a word is attended to",
      text: `This is the map of “${name}”: bright where the model attends to the word. Point at any word of the prompt to see its map, and click to keep it.`,
      targets: [".dv-stage"],
      isLeftOut: index < 0 || !run.hasMaps,
      show: () => {
        player.pause();
        session.goTo(middle);
        viewState.lens.value?.remove?.();
        viewState.pinned.value = [index];
      },
    },
    {
      title: "The other way round",
      text: "Each word has a map of its own. Drag over the image instead, and the words that this region attends to are ranked here.",
      targets: [".dv-maps"],
      isLeftOut: !run.hasMaps,
    },
    {
      title: "Concepts",
      text: "How much does the image look like a word? A second model measures it at every step. In the grey band a score means nothing; the triangles under the film mark where a concept emerges.",
      targets: [".dv-meters"],
      isLeftOut: run.info.meter === null,
      show: () => {
        viewState.clear();
        session.goTo(run.length);
      },
    },
    {
      title: "Your turn",
      text: "Change a word and press Enter: the same noise, another image. The earlier run stays, to compare with.",
      targets: [".dv-prompt"],
      isLeftOut: !traits._can_run.value,
    },
    {
      title: "More",
      text: "Layers, comparisons, explanations, notes and files open here, and ? lists all keys and gestures.",
      targets: [".dv-drawer-bar"],
    },
  ];
  return cards.filter(({ isLeftOut }) => !isLeftOut);
}

/** Begins the tour, if there is a run to show it with. */
export function startTour(context: Context): boolean {
  const run = context.session.store.shown.value;
  if (!run || run.latest.value < 0) return false;
  context.hints.retire("tour");
  context.session.viewState.tour.value = { cards: cardsOf(context, run), at: 0 };
  return true;
}
