// Questions to the kernel and their answers, told apart by ids. An answer is handed on as it came: who asked reads it.

import type { Message, Question } from "./protocol";

export class Questions {
  readonly #waiting = new Map<number, (answer: Message | string) => void>();
  #last = 0;

  constructor(private readonly send: (question: Question & { readonly id: number }) => void) {}

  /** The kernel's answer; an Error with its words if it refuses. */
  ask(question: Question): Promise<Message> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (answer) => (typeof answer === "string" ? reject(new Error(answer)) : resolve(answer)));
      this.send({ ...question, id });
    });
  }

  /** Takes an answer, or the reason why there is none. */
  settle(id: number, answer: Message | string): void {
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }

  /** A new connection owes no answers. */
  forget(): void {
    for (const id of [...this.#waiting.keys()]) this.settle(id, "The kernel went away before it answered");
  }
}
