-- In the cold listener: the pod that the activator named says that it does not have the model. Said as 503 (a client may
-- take 404 for final), and marked for the main listener, which may try once more.
function envoy_on_response(handle)
  local headers = handle:headers()
  if not headers:get("x-model-not-loaded") then return end
  headers:remove("x-model-not-loaded")
  headers:replace("x-shoal-not-sent", "true")
  headers:replace("retry-after", "1")
  if (headers:get("content-type") or ""):find("^application/grpc") then
    headers:replace("grpc-status", "14")
    headers:replace("grpc-message", "REASON: MESSAGE")
    return
  end
  headers:replace(":status", "503")
  headers:replace("content-type", "application/json")
  local length = handle:body(true):setBytes('{"error": "MESSAGE", "reason": "REASON"}')
  handle:headers():replace("content-length", length)  -- the former object is out of scope once the body was waited for
end
