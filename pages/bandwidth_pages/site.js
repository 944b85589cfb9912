// What the theme's scripts add to a page later, made usable by keyboard and screen reader.
(function () {
  "use strict";
  function mend() {
    // A table or a block of code that is wider than the page is scrolled sideways, also without a mouse.
    document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach(function (wrap) {
      wrap.setAttribute("tabindex", "0");
    });
    // The button that copies code is no navigation.
    document.querySelectorAll("nav.md-code__nav:not([role])").forEach(function (nav) {
      nav.setAttribute("role", "none");
    });
  }
  new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
  mend();
})();
