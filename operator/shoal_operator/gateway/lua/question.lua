-- In the cold listener: which model of which InferenceService a question is about, as the activator will read it, for
-- the filter that counts questions.
function envoy_on_request(handle)
  local headers = handle:headers()
  local service = (headers:get(":authority") or ""):match("^[^.]+%.[^.]+")
  local path = headers:get(":path") or ""
  local model = path:match("^/v[12]/models/([^/:?]+)")OR_NATIVE
    or headers:get("mm-model-id")
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("QUESTION", "service", service or "")
  metadata:set("QUESTION", "model", model or "")
end
