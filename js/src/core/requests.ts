// Requests to the kernel and their replies, matched by id. The reply is passed on as it came: its caller reads it.

import type { KernelRequest, Message } from "./protocol";

/** How long a request waits for its reply. */
export const REPLY_TIMEOUT_MS = 60_000;

const TIMEOUT = `The kernel did not reply within ${REPLY_TIMEOUT_MS / 1000} s: it is busy, or gone.`;
const DISCONNECTED = "The kernel went away before it replied";

interface Pending {
  readonly settle: (reply: Message | string) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Requests {
  readonly #pending = new Map<number, Pending>();
  // Every view of a widget receives every reply, so ids must be unique among all views of all pages: the upper 32 bits
  // are random, the lower 20 count.
  #lastId = Math.floor(Math.random() * 2 ** 32) * 2 ** 20;

  constructor(private readonly send: (question: KernelRequest & { readonly id: number }) => void) {}

  /** The kernel's reply. Rejects with the kernel's message if it refuses, and with our own if it does not reply. */
  ask(question: KernelRequest): Promise<Message> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, {
        settle: (reply) => (typeof reply === "string" ? reject(new Error(reply)) : resolve(reply)),
        timer: setTimeout(() => this.settle(id, TIMEOUT), REPLY_TIMEOUT_MS),
      });
      this.send({ ...question, id });
    });
  }

  /** Takes a reply, or the reason why there is none. False if the request was not one of these. */
  settle(id: number, reply: Message | string): boolean {
    const pending = this.#pending.get(id);
    if (!pending) return false;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    pending.settle(reply);
    return true;
  }

  /** Rejects what is pending: a new connection owes no replies. */
  clear(): void {
    for (const id of [...this.#pending.keys()]) this.settle(id, DISCONNECTED);
  }
}
