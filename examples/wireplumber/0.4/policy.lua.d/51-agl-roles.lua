-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
-- Who is heard when several roles want to be: the roles of Automotive Grade Linux.
-- For WirePlumber 0.4; copy it to /etc/wireplumber/policy.lua.d/.
--
-- Each role is an endpoint. A stream goes to the endpoint of its media.role (a card of ours says
-- it with `role` in its card file), and that plays on the default sink. While a role is heard,
-- `action` is what the lower ones do: mix, duck (softer) or cork (they wait).
--
-- A stream must have exactly one role of this table and must not name a real sink as its
-- target.object: it would go past the policy. A stream without a role is Multimedia.

local roles = {
  ["Multimedia"] = { priority = 25, action = "mix", alias = { "Music", "Movie", "Game" } },
  ["Speech-Low"] = { priority = 30, action = "cork" },
  ["Custom-Low"] = { priority = 35, action = "cork" },
  ["Navigation"] = { priority = 50, action = "duck" },
  ["Speech-High"] = { priority = 60, action = "cork" },
  ["Custom-High"] = { priority = 65, action = "cork" },
  ["Communication"] = { priority = 75, action = "cork" },
  ["Emergency"] = { priority = 99, action = "cork", alias = { "Alert" } },
}

-- The volume of who is ducked; linear.
default_policy.policy["duck.level"] = 0.2

default_policy.policy.roles = {
  -- Whoever records. An endpoint for playback alone would leave microphones unconnected.
  ["Capture"] = {
    ["alias"] = { "Multimedia", "Music", "Voice" },
    ["priority"] = 25,
    ["action.default"] = "cork",
    ["action.Capture"] = "mix",
    ["media.class"] = "Audio/Source",
  },
}
default_policy.endpoints = {
  ["role.capture"] = { ["media.class"] = "Audio/Source", ["role"] = "Capture" },
}

for name, role in pairs(roles) do
  default_policy.policy.roles[name] = {
    ["alias"] = role.alias,
    ["priority"] = role.priority,
    ["action.default"] = role.action,
    ["action." .. name] = "mix", -- among themselves
  }
  default_policy.endpoints["role." .. name:lower()] = {
    ["media.class"] = "Audio/Sink",
    ["role"] = name,
  }
end
