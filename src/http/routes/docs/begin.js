"use strict";
// `validatorUrl` would send the document to somebody else.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null, supportedSubmitMethods: ["get", "post", "delete"] });
