/** An explanation as elements: each check that a walk makes, with the bits that decide it. */

import { entryName } from "../dist/decode/entry.js";
import { factorText } from "../dist/explain/index.js";

function cell(name, text, className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  element.className = className;
  return element;
}

/** List items, in the order of the checks. */
export function checkItems({ checks }) {
  return checks.map((check) => {
    const item = document.createElement("li");
    item.className = check.passed ? "good" : "bad";
    const subject = check.level === 0 ? "address" : entryName(check.level);
    item.append(cell("span", `${subject}: ${check.text} `), cell("code", check.factors.map(factorText).join(" ")));
    return item;
  });
}
