-- In the cold listener: which model of which InferenceService a question is about, as the activator will read it, for
-- the filter that counts questions.
function envoy_on_request(handle)
  local headers = handle:headers()
  local service = (headers:get(":authority") or ""):match("^[^.]+%.[^.]+")
  local path = headers:get(":path") or ""
  local model = path:match("^/v[12]/models/([^/:?]+)")OR_NATIVE
    or headers:get("mm-model-id")
  if path:find("^/v1/models$") or path:find("^/v1/models%?") then
    service = (service or "") .. "/list"  -- who lists models uses up nothing of what loads them
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("QUESTION", "service", service or "")
  metadata:set("QUESTION", "model", model or "")
end
