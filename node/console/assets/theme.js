// Before anything is drawn, so that a dark page does not begin with a white flash.
(function () {
  try {
    const wanted = localStorage.getItem("lograft.theme");
    if (wanted === "dark" || wanted === "light") document.documentElement.dataset.theme = wanted;
  } catch { /* no storage: the system's choice holds */ }
})();
