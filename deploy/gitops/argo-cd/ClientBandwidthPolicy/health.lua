-- The health of a ClientBandwidthPolicy in Argo CD. Given: obj, the object as it is in the cluster.
-- Lua 5.1 without any library but the basic one, as Argo CD runs it by default.
--
--   Healthy      it decides by what its nodes report, also where some of them do not or it may limit no more clients
--   Progressing  the operator has not taken this version up yet, or no node is there that it could look at
--   Suspended    mode: Disabled, or policies are switched off in this installation
--   Degraded     it cannot be used as it is written, or it decides nothing: none of its nodes reports, or none knows
--                the capacity that it needs

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "it is being deleted")
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready = conditions["Ready"]

if ready == nil or (ready.status == "Unknown" and ready.reason == "Pending") then
  return health("Progressing", "the operator has not looked at it yet")
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not looked at the last edit yet")
end

if ready.status == "Unknown" then
  return health("Progressing", ready.message)
end
if ready.status == "True" then
  local message = ready.message
  for _, name in ipairs({ "AtMaximum", "CapacityUnknown", "NotMeasuring" }) do
    local passing = conditions[name]
    if passing ~= nil and passing.status == "True" then
      if message ~= "" then
        message = message .. "; "
      end
      message = message .. passing.message
    end
  end
  return health("Healthy", message)
end

local ofReason = {
  Disabled = "Suspended",
  Pending = "Progressing",
  -- A group of nodes may be scaled to none, or the agents may still be starting.
  NoNodeSelected = "Progressing",
}
return health(ofReason[ready.reason] or "Degraded", ready.message)
