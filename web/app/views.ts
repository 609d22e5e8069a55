/** The views, in the order of the navigation. */
import type { ComponentType } from "preact";
import type { ViewName } from "../state/route.js";
import { DecodeView } from "../views/decode/decode-view.jsx";
import { DumpView } from "../views/dump/dump-view.jsx";
import { MmuView } from "../views/mmu/mmu-view.jsx";
import { PlayView } from "../views/play/play-view.jsx";
import { WalkView } from "../views/walk/walk-view.jsx";

export interface View {
  readonly title: string;
  readonly component: ComponentType;
}

export const VIEWS: Readonly<Record<ViewName, View>> = {
  dump: { title: "Dump", component: DumpView },
  walk: { title: "Walk", component: WalkView },
  decode: { title: "Decode", component: DecodeView },
  mmu: { title: "MMU", component: MmuView },
  play: { title: "Playground", component: PlayView },
};
