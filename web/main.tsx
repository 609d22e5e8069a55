/** The inspector: page tables, walks, words and a shadow MMU, in the browser. */
import { render } from "preact";
import { App } from "./app/app.jsx";
import { start } from "./app/start.js";
import "./style/index.css";

await start();
render(<App />, document.getElementById("app")!);
