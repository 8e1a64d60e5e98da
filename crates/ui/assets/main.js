// Everything here is an extra: pages, links and forms work without scripts.
import { times } from "./times.js";
import "./switches.js";
import "./keys.js";
import "./dialogs.js";
import { views, late } from "./list.js";
import { complete } from "./complete.js";
import { decode } from "./codec.js";
import { live } from "./live.js";

/** What has to be done again whenever a part of the page is new. */
function dress() {
  times();
  late();
  decode();
}

views();
complete(document.getElementById("query"));
dress();
live(dress);
