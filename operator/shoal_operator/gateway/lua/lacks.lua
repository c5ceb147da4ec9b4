-- Whether a pod's answer says that it does not have the model: by its mark, or by a rule with its status whose texts are
-- all in its body (gRPC: in its message).
local function lacks(handle, rules)
  local headers = handle:headers()
  if headers:get("x-model-not-loaded") then return true end
  local grpc = (headers:get("content-type") or ""):find("^application/grpc")
  local status = tonumber(headers:get(grpc and "grpc-status" or ":status") or "")
  local text
  for _, rule in ipairs(rules and rules[grpc and "grpc" or "rest"] or {}) do
    if rule.status == status then
      if not text and grpc then
        text = headers:get("grpc-message") or ""
      elseif not text then
        local length = tonumber(headers:get("content-length") or "")
        if not length or length > MAX_BYTES then return false end
        local body = length > 0 and handle:body()
        text = body and body:getBytes(0, body:length()) or ""
      end
      local all = true
      for _, part in ipairs(rule.contains) do
        all = all and text:find(part, 1, true) ~= nil
      end
      if all then return true end
    end
  end
  return false
end
