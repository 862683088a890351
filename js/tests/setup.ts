// Canvases, which happy-dom lacks. They draw nothing: drawing is tested in a real browser.

class Context {
  drawImage(): void {}
  clearRect(): void {}
  putImageData(): void {}
  getImageData(_x: number, _y: number, w: number, h: number): { data: Uint8ClampedArray } {
    return { data: new Uint8ClampedArray(w * h * 4) };
  }
}

class Canvas {
  constructor(
    readonly width: number,
    readonly height: number,
  ) {}
  getContext(): Context {
    return new Context();
  }
}

class FakeImageData {
  readonly data: Uint8ClampedArray;
  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.data = new Uint8ClampedArray(width * height * 4);
  }
}

Object.assign(globalThis, {
  OffscreenCanvas: Canvas,
  ImageData: FakeImageData,
  createImageBitmap: async () => Object.assign(new Canvas(8, 8), { close() {} }),
});
