// Keys and gestures, and the way into the tour.

import { Button, type Context } from "../../app/coreExports";
import { startTour } from "../../late/widgetTour";

const GESTURES: readonly (readonly [name: string, ...rows: (readonly [how: string, what: string])[]])[] = [
  [
    "Steps",
    ["← →", "one step back or forward; with Shift, five"],
    ["Home End", "first and last step"],
    ["Space", "play and pause"],
    ["drag the filmstrip", "go to any step"],
  ],
  [
    "Words",
    ["point at a word", "see where it is attended to"],
    ["click", "keep it on the image; Shift-click adds another"],
    ["drag a word up or down", "change its weight (Alt+↑, Alt+↓)"],
    ["Alt-click", "leave it out, or put it back"],
    ["right-click or hold", "weight, layers and what its map shows"],
    ["double-click or type", "edit the prompt; Enter runs, Esc undoes"],
  ],
  [
    "Image",
    ["click or drag", "rank the words that a region attends to"],
    ["Enter, arrow keys", "the same with the keyboard; Shift resizes"],
    ["Esc", "clear words, region and maps"],
  ],
  [
    "By touch",
    ["tap the image", "read the value and rank the words there"],
    ["hold, then drag", "select a region"],
    ["hold a word", "its weight; add its map to those on the image"],
  ],
  ["Concepts", ["drag a name", "change the order (Alt+↑, Alt+↓)"]],
];

export function Help({ context }: { readonly context: Context }) {
  return (
    <section class="dv-help" aria-label="Help">
      <div class="dv-title">
        <h3>Keys and gestures</h3>
        <Button class="dv-do" data-testid="start-tour" onClick={() => startTour(context)}>
          Take the tour (60 s)
        </Button>
      </div>
      <div class="dv-gestures">
        {GESTURES.map(([name, ...rows]) => (
          <table key={name}>
            <caption>{name}</caption>
            <tbody>
              {rows.map(([how, what]) => (
                <tr key={how}>
                  <th scope="row">{how}</th>
                  <td>{what}</td>
                </tr>
              ))}
            </tbody>
          </table>
        ))}
      </div>
    </section>
  );
}
