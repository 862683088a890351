// What anywidget passes to the render function of a widget, as far as it is used here.

/** What JupyterLab and Notebook know of a kernel. */
interface Kernel {
  readonly statusChanged?: {
    connect(callback: (kernel: unknown, status: string) => void): void;
    disconnect(callback: (kernel: unknown, status: string) => void): void;
  };
}

/** The traits of a widget, and its messages to and from the kernel. */
export interface Model<Message = unknown> {
  readonly widget_manager?: { readonly kernel?: Kernel | null };
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: Message): void;
  on(name: string, callback: (...args: never[]) => void): void;
  off(name: string, callback: (...args: never[]) => void): void;
}

export interface RenderProps<Message = unknown> {
  readonly model: Model<Message>;
  readonly el: HTMLElement;
  readonly signal?: AbortSignal;
}
