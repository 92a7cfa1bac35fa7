// The coordinator of one policy: its roles, its jobs, its alerts. docs/azure.md
//   az deployment sub create --location LOCATION --template-file main.bicep --parameters nightly.bicepparam
targetScope = 'subscription'

@description('Name of the policy, a-z, 0-9 and -; jobs, identities and alerts are called after it')
@minLength(1)
@maxLength(13)
param policyName string

@description('The policy as JSON (docs/azure.md); its name is policyName')
param policy string

@description('Resource group of jobs, logs and alerts; it exists')
param resourceGroupName string

@description('Resource groups of the machines and of their snapshots: there the identities get their roles')
param machineGroups array

@description('The image of snapfreeze-job (Dockerfile)')
param image string

@description('Its registry, if that wants the identities to log in; they need AcrPull there')
param registryServer string = ''

@description('When it backs up: cron, UTC')
param schedule string = '0 2 * * *'

@description('Action groups that are told of a database that is left frozen, of a failure, and of silence')
param actionGroups array

@description('The policy makes restore points (snapshotter)')
param restorePoints bool = false

param location string = deployment().location

var roles = loadJsonContent('roles.json')

resource coordinatorRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'snapfreeze coordinator')
  properties: {
    roleName: 'snapfreeze coordinator'
    description: roles.coordinator.description
    type: 'CustomRole'
    permissions: [{ actions: roles.coordinator.actions }]
    assignableScopes: [subscription().id]
  }
}

resource pointsRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'snapfreeze points')
  properties: {
    roleName: 'snapfreeze points'
    description: roles.points.description
    type: 'CustomRole'
    permissions: [{ actions: roles.points.actions }]
    assignableScopes: [subscription().id]
  }
}

resource upkeepRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'snapfreeze upkeep')
  properties: {
    roleName: 'snapfreeze upkeep'
    description: roles.upkeep.description
    type: 'CustomRole'
    permissions: [{ actions: roles.upkeep.actions }]
    assignableScopes: [subscription().id]
  }
}

// For snapfreeze-azdisk. Who assigns it to a machine's identity, on that machine and its disks: docs/azure.md
resource hostRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'snapfreeze host')
  properties: {
    roleName: 'snapfreeze host'
    description: roles.host.description
    type: 'CustomRole'
    permissions: [{ actions: roles.host.actions }]
    assignableScopes: [subscription().id]
  }
}

// For people who run snapfreezectl restore; assigned by hand.
resource restoreRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, 'snapfreeze restore')
  properties: {
    roleName: 'snapfreeze restore'
    description: roles.restore.description
    type: 'CustomRole'
    permissions: [{ actions: roles.restore.actions }]
    assignableScopes: [subscription().id]
  }
}

module jobs 'jobs.bicep' = {
  name: 'snapfreeze-${policyName}'
  scope: resourceGroup(resourceGroupName)
  params: {
    policyName: policyName
    policy: policy
    image: image
    registryServer: registryServer
    schedule: schedule
    actionGroups: actionGroups
    location: location
  }
}

module backupAccess 'access.bicep' = [for group in machineGroups: {
  name: 'snapfreeze-${policyName}-backup-access'
  scope: resourceGroup(group)
  params: {
    principalId: jobs.outputs.backupPrincipal
    roleDefinitionId: coordinatorRole.id
  }
}]

module pointsAccess 'access.bicep' = [for group in machineGroups: if (restorePoints) {
  name: 'snapfreeze-${policyName}-points-access'
  scope: resourceGroup(group)
  params: {
    principalId: jobs.outputs.backupPrincipal
    roleDefinitionId: pointsRole.id
  }
}]

module upkeepAccess 'access.bicep' = [for group in machineGroups: {
  name: 'snapfreeze-${policyName}-upkeep-access'
  scope: resourceGroup(group)
  params: {
    principalId: jobs.outputs.upkeepPrincipal
    roleDefinitionId: upkeepRole.id
  }
}]
