// Search runs in a worker, which browsers refuse to pages from file://. There, run its script in a hidden frame instead.
if (location.protocol === "file:") {
  // In a task of its own, as between threads: within the event that caused it, the search box would lose its text.
  const deliver = (target, data) =>
    setTimeout(() => target.dispatchEvent(new MessageEvent("message", {data: structuredClone(data)})));

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.addEventListener("message", event => this.onmessage?.(event));
      this.frame = document.body.appendChild(document.createElement("iframe"));
      this.frame.hidden = true;
      const inside = this.inside = this.frame.contentWindow;
      const load = source => new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${source}: not loaded`));
        script.src = source;
        inside.document.body.append(script);
      });
      inside.importScripts = async (...sources) => { for (const source of sources) await load(source); };
      inside.postMessage = data => deliver(this, data);
      this.ready = load(new URL(url, location.href).href);
    }

    postMessage(data) {
      this.ready.then(() => deliver(this.inside, data));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
