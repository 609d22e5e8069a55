/** The inspector: page tables, walks, words and a shadow MMU, in the browser. */
import { render } from "preact";
import { App } from "./app/app.jsx";
import "./style/index.css";

render(<App />, document.getElementById("app")!);
