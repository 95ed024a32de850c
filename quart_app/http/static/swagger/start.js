// Shows the document whose address stands in the page; a file of its own, since inline scripts are
// forbidden by the page's Content-Security-Policy.
"use strict";
const root = document.getElementById("swagger-ui");
window.ui = SwaggerUIBundle({
  domNode: root,
  url: root.dataset.url,
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
