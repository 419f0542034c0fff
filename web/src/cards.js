// The list of faces. A card stays while what it shows changes: what somebody is about to
// press, or has open, isn't taken away from under them.
import { ask } from "./ask.js";
import { describeMap, drawFace } from "./drawing.js";
import { judge, percent, UNCERTAIN } from "./telling.js";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function row(name) {
  const meter = element("meter", { min: 0, max: 1, value: 0 });
  meter.setAttribute("aria-hidden", "true"); // The number beside it says the same.
  const value = element("td", { className: "value" });
  const line = element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    element("td", {}, meter),
    value,
  );
  return { line, meter, value };
}

class Card {
  constructor(index, network, classNames, { onExplain, onError }) {
    this.index = index;
    this.network = network;
    this.classNames = classNames;
    this.onExplain = onExplain;
    this.onError = onError;
    this.title = element("h3");
    this.small = element("canvas");
    this.small.setAttribute("role", "img");
    this.small.setAttribute("aria-label", `Face ${index + 1} as the network sees it`);
    this.rows = classNames.map(row);
    this.words = element("p", { className: "hint" });
    this.words.setAttribute("aria-live", "polite");
    this.button = element("button", { type: "button" }, "Show what mattered");
    this.button.setAttribute("aria-label", `Show what mattered, face ${index + 1}`);
    this.button.addEventListener("click", () => this.toggleMap());
    const table = element(
      "table",
      {},
      element("caption", {}, "Calibrated probabilities"),
      element("tbody", {}, ...this.rows.map(({ line }) => line)),
    );
    this.item = element(
      "li",
      { className: "face" },
      this.title,
      element("div", { className: "body" }, this.small, table),
      this.button,
      this.words,
    );
  }

  update(face, side, leastConfidence) {
    this.face = face;
    this.side = side;
    this.hideMap();
    this.retitle(leastConfidence);
    const { best } = judge(face, this.classNames, leastConfidence);
    this.rows.forEach(({ line, meter, value }, i) => {
      line.className = i === best ? "best" : "";
      meter.value = face.probabilities[i];
      value.textContent = `${(100 * face.probabilities[i]).toFixed(1)} %`;
    });
    this.item.dataset.probabilities = JSON.stringify(face.probabilities);
    this.item.dataset.box = JSON.stringify(face.box);
  }

  retitle(leastConfidence) {
    const { best, label, mostProbable } = judge(this.face, this.classNames, leastConfidence);
    const share = percent(this.face.probabilities[best]);
    const text =
      label === UNCERTAIN ? `uncertain (${mostProbable} ${share})` : `${label} ${share}`;
    this.title.textContent = `Face ${this.index + 1}: ${text}`;
  }

  hideMap() {
    this.button.setAttribute("aria-pressed", "false");
    if (this.words.textContent) this.words.textContent = "";
    drawFace(this.small, this.face.image, this.side);
  }

  // Not `disabled`, which would take the focus from the button.
  setBusy(is) {
    for (const name of ["aria-disabled", "aria-busy"]) {
      this.button.setAttribute(name, String(is));
    }
  }

  async toggleMap() {
    if (this.button.getAttribute("aria-busy") === "true") return;
    if (this.button.getAttribute("aria-pressed") === "true") {
      this.hideMap();
      return;
    }
    this.onExplain();
    const { face, side } = this;
    const { best } = judge(face, this.classNames, 0);
    this.setBusy(true);
    try {
      const { map } = await ask("explain", {
        image: face.image,
        target: best,
        network: this.network,
      });
      if (face !== this.face) return; // Of a face that isn't shown any more.
      drawFace(this.small, face.image, side, map);
      this.words.textContent = describeMap(Array.from(map), side);
      this.button.setAttribute("aria-pressed", "true");
    } catch (error) {
      this.onError(error);
    } finally {
      this.setBusy(false);
    }
  }
}

/** The cards in `list`; `events` are told of a map that is asked for, and of errors. */
export class Cards {
  constructor(list, events) {
    this.list = list;
    this.events = events;
    this.cards = [];
  }

  show({ faces, network, classNames, side }, leastConfidence) {
    if (this.cards.some((card) => card.network !== network)) this.clear();
    while (this.cards.length > faces.length) this.cards.pop().item.remove();
    faces.forEach((face, i) => {
      if (i === this.cards.length) {
        const card = new Card(i, network, classNames, this.events);
        this.cards.push(card);
        this.list.append(card.item);
      }
      this.cards[i].update(face, side, leastConfidence);
    });
  }

  retitle(leastConfidence) {
    this.cards.forEach((card) => card.retitle(leastConfidence));
  }

  clear() {
    this.cards = [];
    this.list.replaceChildren();
  }
}
